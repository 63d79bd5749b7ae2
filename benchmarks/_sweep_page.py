"""The section of docs/sweeps.md about what a sweep costs beside its trials."""

from __future__ import annotations

from pathlib import Path

from _page import markdown, said
from _results import Row, Table, load

TITLE = "## What it costs beside its trials"
_ORDER: list[object] = ["grid", "optuna", "grid, a node killed midway"]


def table_of(results: Path) -> Table | None:
    """What was measured, whenever that was, as one table; None where nothing was."""
    path = results / "sweep.json"
    tables = load(path).tables if path.is_file() else []
    if not tables:
        return None
    rows = sorted((row for table in tables for row in table.rows), key=lambda row: _ORDER.index(row["sweep"]))
    return tables[-1].model_copy(update={"rows": rows, "date": max(table.date for table in tables)})


def sweeps(table: Table) -> str:
    """A row for each sweep."""
    header = [
        *("", "trials", "that differ", "wall clock, s", "the trials' own, s", "beside them, s"),
        "orchestration, %",
        *("once more, s", "tasks lost with a node", "failed", "same results", "load"),
    ]
    return markdown(header, [_row(row) for row in table.rows])


def _row(row: Row) -> list[str]:
    share, same = row.get("orchestration"), row.get("same results")
    return [
        *(str(row[key]) for key in ("sweep", "trials", "distinct")),
        *(said(row[key], 0) for key in ("wall s", "trials s")),
        "" if share is None else said(row["beside s"], 1),
        "" if share is None else said(100 * float(str(share)), 1),
        said(row["second run s"], 1),
        *(str(row[key]) for key in ("lost", "errors")),
        "" if same is None else "yes" if same else "**no**",
        said(row["load"], 1),
    ]
