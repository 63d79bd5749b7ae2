"""Tables that several commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from graphopt.metrics import Estimate

__all__ = ["estimates"]


def estimates(rows: Mapping[str, Estimate]) -> Table:
    """A row for each value, with its interval."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" measure", no_wrap=True)
    table.add_column("value", justify="right", style="bold", no_wrap=True)
    table.add_column("interval", style="dim", no_wrap=True)
    for name, estimate in rows.items():
        interval = f"{estimate.low:.4g} to {estimate.high:.4g}"
        table.add_row(f" {name}", f"{estimate.value:.4g}", interval)
    return table
