"""How sides that were compared on several targets agree, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphopt.cli._console import console

if TYPE_CHECKING:
    from rich.table import Table

    from graphopt.evaluate import TargetAgreement

__all__ = ["print_agreement"]


def print_agreement(found: TargetAgreement) -> None:
    """Print a matrix for each metric, and what each target computes in."""
    from rich.text import Text

    out = console()
    out.print()
    out.print(Text.assemble((f" {found.package}", "bold"), " beside ", (found.reference, "bold")))
    out.print(Text(f" {found.data}; intervals are 95 %", style="dim"))
    for title, table in _matrices(found):
        out.print()
        out.print(Text(f" {title}", style="bold"))
        out.print(table)
    out.print()
    for name, precision in found.precision.items():
        style = "yellow" if precision.silent else ""
        silently = " where the graph says float32" if precision.silent else ""
        out.print(Text(f" {name} computes in {precision}{silently}", style=style))


def _matrices(found: TargetAgreement) -> Iterator[tuple[str, Table]]:
    """A table for each metric: a row for each side, beside each that comes before it."""
    from rich import box
    from rich.table import Table

    from graphopt.metrics import METRICS

    for key in dict.fromkeys(key for pair in found.pairs for key in pair.metrics):
        metric = METRICS[key]
        values = {(pair.reference, pair.side): pair.metrics.get(key) for pair in found.pairs}
        columns = list(dict.fromkeys(reference for reference, _ in values))
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
        table.add_column(" beside", no_wrap=True)
        for column in columns:
            table.add_column(column, justify="right", overflow="fold")
        for row in dict.fromkeys(side for _, side in values):
            cells = [values.get((column, row)) for column in columns]
            table.add_row(
                f" {row}",
                *("" if c is None else f"{c.value:.4g} ({c.low:.4g} to {c.high:.4g})" for c in cells),
            )
        yield f"{metric.label}, {metric.unit}" if metric.unit else metric.label, table
