"""Tables of docs/predictions.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from _page import markdown, said
from _results import Results, Row, Table, load

FILE = "predict.json"
GOALS = {"tpot": (8.0, 4.0), "ttft": (12.0, 8.0), "peak_memory": (4.0, 2.0)}
"""Percent that the median error may be, and should be, at most."""
COVERAGE, AIMED = (85.0, 95.0), (88.0, 92.0)
"""Percent of measurements that intervals should hold, which are to hold 90."""
CORRELATION, PLACE = (0.93, 0.98), (3, 1)
HEADS = {
    "point": "texts x prompt",
    "predicted_ms": "predicted, ms",
    "measured_ms": "measured",
    "off_percent": "off by, %",
    "stored_off_percent": "stored profile, %",
    "left_out_off_percent": "without its sizes, %",
    "memory_gbs": "memory, GB/s",
}
SIZES = {
    "peak_memory": ("Memory of a process that answers, as `graphopt bench` measures it", "MB"),
    "load_time": ("Seconds to load", "ms"),
    "package_bytes": ("Bytes of packages, from config.json and the recipe alone", "MB"),
}
METRICS = {"tpot": "a token", "ttft": "a prompt"}


def results_of(folder: Path) -> Results | None:
    path = folder / FILE
    return load(path) if path.is_file() else None


def goals(found: Results) -> str:
    """What was to be reached, and what was; bold where missed."""
    rows = {str(row["what"]): row for row in found.find("summary").rows}
    lines = []
    for metric, (must, aim) in GOALS.items():
        if metric in rows:
            error = float(str(rows[metric]["median_error_percent"]))
            lines.append(
                [f"{metric}, median error, %", f"at most {must:g}", f"{aim:g}", _bold(error, error <= must)]
            )
    for table in found.tables:
        if table.name == "held":
            row = table.row("peak_memory")
            must, aim = GOALS["peak_memory"]
            error, most = (float(str(row[f"{how}_error_percent"])) for how in ("median", "largest"))
            said_so = f"{_bold(error, error <= must)} (at most {most:.1f})"
            lines.append(["peak memory, median error, %", f"at most {must:g}", f"{aim:g}", said_so])
        if table.name == "package_bytes":
            apart = max(abs(int(str(row["weights_off_bytes"]))) for row in table.rows)
            whole = max(abs(float(str(row["off_percent"]))) for row in table.rows)
            lines.append(["bytes of weights, largest error", "0", "0", _bold(apart, apart == 0, 0)])
            lines.append(["bytes of a package, largest error, %", "0", "0", f"**{whole:.2f}**"])
    every = float(str(rows["all points"]["coverage_percent"]))
    (low, high), (least, most) = COVERAGE, AIMED
    lines.append(
        [
            "intervals of 90 % that held, %",
            f"{low:g} to {high:g}",
            f"{least:g} to {most:g}",
            _bold(every, low <= every <= high),
        ]
    )
    if any(table.name == "ranking" for table in found.tables):
        row = found.find("ranking").row("plans")
        rank, place = float(str(row["rank_correlation"])), int(str(row["place_of_the_fastest"]))
        lines.append(
            [
                f"rank correlation of {row['plans']} plans",
                f"{CORRELATION[0]}",
                f"{CORRELATION[1]}",
                _bold(rank, rank >= CORRELATION[0], 3),
            ]
        )
        lines.append(
            ["place of the truly fastest", f"{PLACE[0]}", f"{PLACE[1]}", _bold(place, place <= PLACE[0], 0)]
        )
    return markdown(["", "goal", "aim", "measured"], lines)


def _bold(value: float, met: bool, digits: int = 1) -> str:
    text = f"{value:.{digits}f}"
    return text if met else f"**{text}**"


def summary(found: Results) -> str:
    """Errors and intervals by metric, shape and kind of point."""
    rows = [
        [
            str(row["what"]),
            str(row["points"]),
            said(row["median_error_percent"], 1),
            said(row["coverage_percent"], 0),
        ]
        for row in found.find("summary").rows
    ]
    return markdown(["", "points", "median error, %", "intervals that held, %"], rows)


def ranking(found: Results) -> str:
    rows = [
        [
            str(row["what"]),
            str(row["plans"]),
            said(row["rank_correlation"], 3),
            str(row["place_of_the_fastest"]),
        ]
        for table in found.tables
        if table.name == "ranking"
        for row in table.rows
    ]
    return markdown(["", "plans", "rank correlation", "place of the fastest"], rows)


def points(found: Results) -> Iterator[tuple[str, str]]:
    """A title and a table for each shape and metric."""
    for table in found.tables:
        if table.name == "points":
            title = f"{table.cell['shape']}, {METRICS.get(str(table.cell['metric']), table.cell['metric'])}"
            yield title, markdown(list(HEADS.values()), [_row(row) for row in table.rows])


def _row(row: Row) -> list[str]:
    cells = [said(row.get(key), 1 if "percent" in key or "gbs" in key else 2) for key in HEADS]
    if not row["held"]:
        cells[2] = f"**{cells[2]}**"
    return cells


def sizes(found: Results) -> Iterator[tuple[str, str]]:
    """A title and a table for memory, loading and bytes."""
    for table in found.tables:
        if table.name in SIZES:
            title, unit = SIZES[table.name]
            heads = [table.key, f"predicted, {unit}", "measured", "off by, %"]
            keys = [table.key, *(f"{how}_{unit.lower()}" for how in ("predicted", "measured")), "off_percent"]
            if table.name == "package_bytes":
                heads.append("weights off by, bytes")
                keys.append("weights_off_bytes")
            yield title, markdown(heads, [_size_row(row, keys) for row in table.rows])


def _size_row(row: Row, keys: list[str]) -> list[str]:
    cells = [said(row.get(key), 0 if key == "weights_off_bytes" else 2) for key in keys]
    if not row["held"]:
        cells[2] = f"**{cells[2]}**"
    return cells


def about(found: Results) -> Table:
    return found.find("summary")
