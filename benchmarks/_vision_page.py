"""Tables of docs/vision.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _page import Figures, markdown, middle_of, said
from _results import Row
from _vision_sources import SOURCES

from graphopt.metrics import Estimate

GOALS = Path(__file__).parent / "vision_goals.json"
FILES = ("vision",)
INT8, LOSSLESS, SOURCE = "graphopt int8", "graphopt lossless", "source fp32"
SHAPES = ("resnet18", "resnet50", "mobilenet_v3", "unet", "yolo")
"""Of which goals of speed are."""
STATIC = "onnxruntime static "
THREADS = (1, 2)
NOT_YET = "not measured"
_SHOWN = {
    "top1_percent": "right top-1, %",
    "map_percent": "mAP, %",
    "own_map_percent": "mAP against the source's own boxes, %",
    "agreement_percent": "same as the source, %",
    "int8_points": "int8 has more right, points",
}


def rows(figures: Figures, name: str, **cell: Any) -> list[Row]:
    """Those of a table, none where it is not measured."""
    if "vision" not in figures.files:
        return []
    tables = [t for t in figures.files["vision"].tables if t.name == name and cell.items() <= t.cell.items()]
    return [row for table in tables for row in table.rows]


def goals(figures: Figures) -> str:
    """What was set, and what came of it: bold where the least that was set is missed."""
    found = []
    for goal in figures.goals:
        sign = "≤" if "size" in goal else "≥"
        ends = [f"{sign} {goal[key]:g}" if key in goal else "" for key in ("must", "aim")]
        if "over" in goal:
            value, where = _speed(figures, goal)
        elif "size" in goal:
            value, where = _size(figures, goal["size"])
        else:
            value, where = _accuracy(figures, *goal["at"], beside=goal.get("beside", ""))
        found.append([goal["what"], *ends, *_outcome(goal, value, where)])
    return markdown(["", "must", "aim", "measured", ""], found)


def _outcome(goal: dict[str, Any], value: Any, where: str) -> list[str]:
    if value is None:
        return [NOT_YET, NOT_YET]

    def within(end: float) -> bool:
        best = value.high if goal.get("noise") and isinstance(value, Estimate) else middle_of(value)
        return bool(best <= end if "size" in goal else best >= end)

    met = within(goal["must"])
    text = said(value) if met else f"**{said(value)}**"
    outcome = "missed" if not met else "aim met" if "aim" in goal and within(goal["aim"]) else "met"
    return [f"{text} {where}".strip(), outcome]


def _speed(figures: Figures, goal: dict[str, Any]) -> tuple[Estimate | float | None, str]:
    """The least ratio over published shapes and threads, and whose it is; or the median of all."""
    found = [
        (ratio, f"({net}, {threads} thread{'s' * (threads > 1)})")
        for net in SHAPES
        for threads in THREADS
        if (ratio := fastest(figures, goal["over"], net, threads))
    ]
    if len(found) < len(SHAPES) * len(THREADS):
        return None, ""
    if goal.get("median"):
        return statistics.median(ratio.value for ratio, _ in found), ""
    return min(found, key=lambda one: one[0].value)


def fastest(figures: Figures, peers: Sequence[str], net: str, threads: int) -> Estimate | None:
    """How many times the fastest of these peers graphopt's int8 is."""
    ratios = [
        row["int8_is"]
        for row in rows(figures, "speed", net=net, threads=threads)
        if row["peer"] in peers and isinstance(row.get("int8_is"), Estimate)
    ]
    return min(ratios, key=middle_of, default=None)  # type: ignore[type-var, return-value]


def _size(figures: Figures, peers: Sequence[str]) -> tuple[float | None, str]:
    """The largest package over its source, and whose it is, once all nets are measured."""
    by_net = {net: _sizes(figures, net) for net in SOURCES}
    if not all(by_net.values()):
        return None, ""
    return max(
        (sizes[peer] / sizes[SOURCE], f"({net}, {peer})")
        for net, sizes in by_net.items()
        for peer in peers
        if peer in sizes
    )


def _sizes(figures: Figures, net: str) -> dict[str, float]:
    return {str(r["peer"]): float(str(r["mb"])) for r in rows(figures, "size", net=net) if "mb" in r}


def _accuracy(figures: Figures, net: str, column: str, *, beside: str = "") -> tuple[Any, str]:
    """What is measured of int8; or the least that it is above those whose names begin with `beside`."""
    values = {str(row["peer"]): row.get(column) for row in rows(figures, "accuracy", net=net)}
    if not beside:
        return values.get(INT8), ""
    others = {peer: value for peer, value in values.items() if peer.startswith(beside)}
    if not others or INT8 not in values:
        return None, ""
    if values[INT8] is not None:
        others = {peer: values[INT8] - value for peer, value in others.items()}  # type: ignore[operator]
    least = min(others, key=lambda peer: middle_of(others[peer]))
    return others[least], f"({least.removeprefix(beside).strip()})"


def speeds(figures: Figures, threads: int) -> str:
    """Each net a row: milliseconds of the source, and how many times as fast int8 is as each."""
    peers = {SOURCE: "source", LOSSLESS: "lossless", "static": "static", "onnxruntime dynamic": "dynamic"}
    peers |= {"OpenVINO int8": "OpenVINO", f"{INT8} again": "itself (A/A)"}
    found = []
    for net, source in SOURCES.items():
        if not (measured := {str(r["peer"]): r for r in rows(figures, "speed", net=net, threads=threads)}):
            continue
        names = {key: [p for p in measured if p.startswith(STATIC)] for key in peers if key == "static"}
        ratios = [fastest(figures, names.get(peer, [peer]), net, threads) for peer in peers]
        times = [said(measured[peer].get("ms")) for peer in (SOURCE, INT8)]
        found.append([source.about, *times, *(said(one) or "-" for one in ratios)])
    header = [f"{threads} thread{'s' * (threads > 1)}", "source, ms", "int8, ms"]
    return (
        markdown([*header, *(f"int8 is, over {name}" for name in peers.values())], found)
        if found
        else NOT_YET
    )


def sizes(figures: Figures) -> str:
    """MB of what is needed to run each net."""
    peers = list(dict.fromkeys(str(row["peer"]) for row in rows(figures, "size")))
    found = []
    for net, source in SOURCES.items():
        if known := _sizes(figures, net):
            found.append([source.about, *(said(known.get(peer)) or "-" for peer in peers)])
    return markdown(["MB", *peers], found) if found else NOT_YET


def failures(figures: Figures) -> str:
    """What could not be made or run, and why."""
    found = {
        f"{row['peer']} of {table.cell['net']}: {row['failed']}": None
        for table in figures.files["vision"].tables
        for row in table.rows
        if "failed" in row
    }
    return "".join(f"- {one}\n" for one in found) or "Nothing failed."


def accuracy(figures: Figures, net: str) -> str:
    """Everyone who was judged on a trained net."""
    measured = rows(figures, "accuracy", net=net)
    if not measured:
        return NOT_YET
    columns = [column for column in _SHOWN if any(column in row for row in measured)]
    found = [[str(row["peer"]), *(said(row.get(column)) for column in columns)] for row in measured]
    return markdown([f"`{net}`", *(_SHOWN[column] for column in columns)], found)


def images(figures: Figures, net: str) -> str:
    """How many held-out pictures a net was judged on."""
    tables = figures.files["vision"].tables
    counts = (t.cell["images"] for t in tables if (t.name, t.cell["net"]) == ("accuracy", net))
    return next((f"{count:,}" for count in counts), NOT_YET)
