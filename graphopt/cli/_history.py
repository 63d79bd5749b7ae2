"""graphopt history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, json_option, write_json

if TYPE_CHECKING:
    from rich.text import Text

    from graphopt.gate import HistoryChange, HistorySeries

__all__ = ["command"]

_ROWS = 8
"""Lines of a plot: eight levels tell a step from noise, and two plots fit on a screen."""
_COLUMNS = 76
"""The most columns of a plot: with its axis, a terminal of 100."""


@click.command("history")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--metric", metavar="KEY", help="Only this one. [default: all]")
@json_option
def command(folder: Path, metric: str | None, json_file: str | None) -> None:
    """Draw what `graphopt gate --record DIR` kept, run by run, and mark where a level changed.

    Speed is drawn for each processor and number of threads apart. Changes are found by PELT (Killick et al.,
    2012), with a penalty that leaves at least 95 % of series of mere noise without one.
    """
    from graphopt.gate import changes, history, read_history

    found = [(series, changes(series)) for series in history(read_history(folder), metric)]
    write_json(json_file, {"folder": str(folder), "series": [_as_json(*each) for each in found]})
    if json_file != "-":
        for series, moved in found:
            _print(series, moved)


def _as_json(series: HistorySeries, moved: Sequence[HistoryChange]) -> dict[str, Any]:
    return {
        "package": series.package,
        "metric": series.metric,
        "scope": series.scope,
        "place": series.place,
        "exact": series.exact,
        "points": [
            {"date": p.date.isoformat(), "commit": p.commit, "value": p.value, "verdict": p.verdict}
            for p in series.points
        ],
        "changes": [vars(change) for change in moved],
    }


def _print(series: HistorySeries, moved: Sequence[HistoryChange]) -> None:
    from rich.text import Text

    from graphopt.gate import MINIMUM_RUNS
    from graphopt.report import plural

    out, points = console(), series.points
    where = f", {series.place}" if series.place else ""
    out.print()
    out.print(
        Text.assemble((f" {series.title}", "bold"), (f"  {plural(len(points), 'run')}{where}", "dim")),
        soft_wrap=True,
    )
    out.print(_plot(series, [change.index for change in moved]))
    for change in moved:
        out.print(_change_text(series, change), soft_wrap=True)
    if not series.exact and len(points) < MINIMUM_RUNS:
        out.print(Text(f" a change shows from {MINIMUM_RUNS} runs on", style="dim"))


def _change_text(series: HistorySeries, change: HistoryChange) -> Text:
    from rich.text import Text

    from graphopt.gate import amount

    before, after = amount(series.metric, change.before), amount(series.metric, change.after)
    share = f" ({100 * (change.after / change.before - 1):+.1f} %)" if change.before > 0 else ""
    word, style = ("better", "green") if change.better else ("worse", "bold red")
    point = series.points[change.index]
    commit = f" at {point.commit[:12]}" if point.commit else ""
    return Text.assemble(
        (f" ▲ {word}", style), f"{commit}, {point.date:%Y-%m-%d %H:%M}: {before} → {after}{share}"
    )


def _plot(series: HistorySeries, moved: Sequence[int]) -> Text:
    """Runs from the oldest to the newest, a bar at each change. Runs of one column: their median."""
    import numpy as np
    from rich.text import Text

    from graphopt.gate import amount

    values = np.array([point.value for point in series.points])
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Text(" no finite value")
    columns = np.array_split(np.arange(len(values)), min(len(values), _COLUMNS))
    low, high = float(finite.min()), float(finite.max())
    rows = 1 if low == high else _ROWS
    grid = [[" "] * len(columns) for _ in range(rows)]
    marks = [" "] * len(columns)
    for x, inside in enumerate(columns):
        if set(inside.tolist()) & set(moved):
            marks[x] = "▲"
            for row in grid:
                row[x] = "┊"
        level = float(np.median(values[inside]))
        if np.isfinite(level):
            y = 0 if low == high else round((high - level) / (high - low) * (rows - 1))
            grid[y][x] = "●"
    names = {0: amount(series.metric, high), rows - 1: amount(series.metric, low)}
    wide = max(map(len, names.values()))
    lines = [f" {names.get(y, ''):>{wide}} ┤{''.join(row)}" for y, row in enumerate(grid)]
    lines.append(f" {'':>{wide}} └{'─' * len(columns)}")
    if any(mark != " " for mark in marks):
        lines.append(f" {'':>{wide}}  {''.join(marks)}")
    lines.append(f" {'':>{wide}}  {_ends(series, len(columns))}")
    return Text("\n".join(lines))


def _ends(series: HistorySeries, width: int) -> str:
    """The axis of time: the first run at its left end, the last one at its right."""
    first, last = (f"{p.date:%Y-%m-%d} {p.commit[:7]}".strip() for p in (series.points[0], series.points[-1]))
    if len(series.points) == 1:
        return first
    gap = width - len(first) - len(last)
    return f"{first}{' ' * gap}{last}" if gap > 0 else f"{first} … {last}"
