"""Tables and the chart of docs/compression.md."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from _lms import LMS
from _page import Figures, markdown, middle_of, said
from _results import Row
from _scatter import Group, Plane, Scatter

from graphopt.metrics import Estimate

GOALS = Path(__file__).parent / "compression_goals.json"
GROUPS = {
    "graphopt": "graphopt ",
    "llama.cpp": "llama.cpp ",
    "llama.cpp, importance matrix": "llama.cpp ",
    "genai builder": "genai builder",
    "AutoRound": "AutoRound",
    "GPTQModel": "GPTQModel",
}
_IMPORTANCE = ", importance matrix"
_WHOLE = "llama.cpp F32"  # no damage to the last digit shown: that the measure itself does none
_MOST_BITS = 10
"""A weight: more are kept as they are trained, and would leave no room to tell the others apart."""
_LINEARS = "layers' products alone"
NOT_YET = "not measured"
_SHOWN: dict[str, tuple[str, int]] = {
    "kl_mean": ("mean KL, nats a token", 5),
    "kl_p99": ("99th percentile", 3),
    "top1_percent": ("same top-1, %", 2),
    "bits": ("bits a weight", 2),
    "weights_mb": ("MB", 2),
}


def group_of(peer: str) -> str | None:
    """The name of the group that the peer is drawn in."""
    found = [name for name, beginning in GROUPS.items() if peer.startswith(beginning)]
    if found[:1] == ["llama.cpp"]:
        return found[1] if peer.endswith(_IMPORTANCE) else found[0]
    return found[0] if found else None


def quality_rows(figures: Figures, model: str) -> list[Row]:
    if "quality" not in figures.files:
        return []
    tables = figures.files["quality"].tables
    return [row for t in tables if (t.name, t.cell.get("model")) == ("quality", model) for row in t.rows]


def pareto(figures: Figures) -> Scatter:
    """Damage by bits a weight, each model a plane. Who leaves tables alone is not drawn among our points."""
    planes = []
    for model in LMS:
        groups: dict[str, dict[str, tuple[float, Estimate]]] = {name: {} for name in GROUPS}
        for row in quality_rows(figures, model):
            peer, bits, kl = str(row["peer"]), row.get("bits"), row["kl_mean"]
            name = group_of(peer)
            if name is None or _LINEARS in peer or not isinstance(bits, float) or bits > _MOST_BITS:
                continue
            assert isinstance(kl, Estimate)
            groups[name][peer] = (bits, kl)
        planes.append(Plane(model, [Group(name, points) for name, points in groups.items()]))
    title = "KL divergence from fp32 by bits a weight"
    return Scatter("pareto", title, planes, "bits a weight", "mean KL, nats a token")


def quality(figures: Figures, model: str) -> str:
    """Everyone who stores fewer bits, from least damage to most."""
    rows = [row for row in quality_rows(figures, model) if row["peer"] != _WHOLE]
    rows.sort(key=lambda row: middle_of(row["kl_mean"]))
    texts = [
        [str(row["peer"]), *(said(row.get(c), digits) for c, (_, digits) in _SHOWN.items())] for row in rows
    ]
    return markdown([model, *(head for head, _ in _SHOWN.values())], texts)


def goals(figures: Figures) -> str:
    """What was set, by model, and what came of it: bold where the least that was set is missed."""
    rows = []
    for goal in json.loads(GOALS.read_text(encoding="utf-8"))["damage"]:
        cells = [_cell(figures, goal, model) for model in LMS]
        outcome = "missed" if any(met is False for _, met, _ in cells) else "met"
        if any(met is None for _, met, _ in cells):
            outcome = f"{outcome}, not all measured" if outcome == "missed" else NOT_YET
        elif outcome == "met" and "aim" in goal and all(aimed for _, _, aimed in cells):
            outcome = "aim met"
        sign = "≥" if goal.get("least") else "≤"
        ends = [f"{sign} {goal[key]:g}" if key in goal else "" for key in ("must", "aim")]
        rows.append([goal["what"], *ends, *(text for text, _, _ in cells), outcome])
    return markdown(["", "must", "aim", *LMS, ""], rows)


def _cell(figures: Figures, goal: dict[str, Any], model: str) -> tuple[str, bool | None, bool]:
    """What is said of one model, and whether the goal and the aim are met there."""
    name, key, column = (
        ("ratios", "pair", "kl_ratio") if "pair" in goal else ("quality", "peer", "top1_percent")
    )
    row = figures.row("quality", name, goal[key], model=model)
    if row is None:
        return NOT_YET, None, False
    value = row[column]
    within = [_within(value, goal.get(end), least=bool(goal.get("least"))) for end in ("must", "aim")]
    text, met = said(value, goal.get("digits", 2)), within[0]
    if goal.get("no_more_bits"):
        bits, theirs = float(str(row["bits"])), float(str(row["their_bits"]))
        text += f" at {bits:.2f} / {theirs:.2f} bits"
        met = met and round(bits, 2) <= round(theirs, 2)
    return text if met else f"**{text}**", met, met and within[1]


def _within(value: Any, end: float | None, *, least: bool) -> bool:
    if end is None:
        return True
    middle = float(middle_of(value))
    return middle >= end if least else middle <= end


def single_goals(figures: Figures) -> str:
    """The same of costs and speeds, which are of one model."""
    rows = []
    for goal in json.loads(GOALS.read_text(encoding="utf-8"))["single"]:
        file, name, cell, row, column = goal["at"]
        found = figures.row(file, name, row, **cell)
        least = bool(goal.get("least"))
        sign = "≥" if least else "≤"
        ends = [f"{sign} {goal[key]:g}" if key in goal else "" for key in ("must", "aim")]
        if found is None or found.get(column) is None:
            rows.append([goal["what"], *ends, NOT_YET, NOT_YET])
            continue
        met, aimed = (_within(found[column], goal.get(end), least=least) for end in ("must", "aim"))
        text = said(found[column], goal.get("digits", 2))
        outcome = "missed" if not met else "aim met" if aimed and "aim" in goal else "met"
        rows.append([goal["what"], *ends, text if met else f"**{text}**", outcome])
    return markdown(["what is of one model", "must", "aim", "measured", ""], rows)


_PLANS = {
    "predicted": ("predicted KL", 5),
    "corrected": ("times one factor", 5),
    "measured": ("measured KL", 5),
}


def plans(figures: Figures) -> str:
    """What was predicted of each plan, and what was measured."""
    return _allocation(figures, "plans", _PLANS)


def judged(figures: Figures) -> str:
    """How good predictions are, in a sentence."""
    if "allocation" not in figures.files:
        return NOT_YET
    table = figures.files["allocation"].find("judged")
    found = [
        f"{row[table.key]}, the median error is {said(row['median_error_percent'], 1)} % and the largest "
        f"{said(row['largest_error_percent'], 1)} %, the rank correlation {said(row['rank_correlation'], 3)}"
        for row in table.rows
    ]
    return f"{'; '.join(found).capitalize()}."


def corrector(figures: Figures) -> str:
    """What is said of the plan that others are corrected by."""
    if "allocation" not in figures.files:
        return NOT_YET
    return figures.files["allocation"].find("plans").notes[0].partition(", is that of ")[2]


def _allocation(figures: Figures, name: str, shown: dict[str, tuple[str, int]]) -> str:
    if "allocation" not in figures.files:
        return NOT_YET
    table = figures.files["allocation"].find(name)
    texts = [
        [str(row[table.key]), *(said(row.get(c), digits) for c, (_, digits) in shown.items())]
        for row in table.rows
    ]
    return markdown(["", *(head for head, _ in shown.values())], texts)


def long(figures: Figures) -> str:
    """Damage by how far into a text, each package a column."""
    if "long" not in figures.files:
        return NOT_YET
    table = figures.files["long"].find("long")
    ends = [int(column.removeprefix("kl_")) for column in table.rows[0] if column != table.key]
    rows = [
        [f"tokens {begin + 1:,} to {end:,}", *(said(row[f"kl_{end}"], 5) for row in table.rows)]
        for begin, end in pairwise([0, *ends])
    ]
    return markdown(["mean KL", *(str(row[table.key]).removeprefix("graphopt ") for row in table.rows)], rows)


def long_texts(figures: Figures) -> str:
    """The texts that it was measured on, in words."""
    if "long" not in figures.files:
        return NOT_YET
    cell = figures.files["long"].find("long").cell
    return f"{cell['windows']} held-out windows of {cell['window']:,} tokens"


def costs(figures: Figures) -> str:
    if "cost" not in figures.files:
        return NOT_YET
    shown = {
        "seconds": ("seconds", 1),
        "processor_seconds": ("of cores", 1),
        "peak_gb": ("peak, GB", 2),
        "largest_gb": ("largest process, GB", 2),
    }
    rows = []
    tasks = [row for table in figures.files["cost"].tables if table.name == "cost" for row in table.rows]
    for row in tasks:
        values = [said(row.get(column), digits) for column, (_, digits) in shown.items()]
        rows.append([str(row["task"]), *values, f"`{row['options']}`"])
    return markdown(["", *(head for head, _ in shown.values()), "options"], rows)
