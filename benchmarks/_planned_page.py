"""The divergence of chosen plans, in docs/predictions.md."""

from __future__ import annotations

from pathlib import Path

from _page import markdown, said
from _results import load

FILE = "planned.json"
MUST, AIM = 20.0, 8.0
"""Percent that the predicted divergence of a chosen plan may be off."""


def section(folder: Path) -> str:
    """Predicted and measured divergence by plan; "" where it was not measured."""
    path = folder / FILE
    if not path.is_file():
        return ""
    found = load(path)
    (judged,) = found.find("judged").rows
    rows = [
        [
            str(row["plan"]),
            said(row["predicted"], 5),
            said(row["measured"], 5) if row["held"] else f"**{said(row['measured'], 5)}**",
            said(row["off_percent"], 1),
        ]
        for row in found.find("planned").rows
    ]
    median, largest = (float(str(judged[key])) for key in ("median_error_percent", "largest_error_percent"))
    text = (
        f"Of {judged['plans']} plans the median error is {median:.1f} %, the largest {largest:.1f} %; "
        f"at most {MUST:g} % was to be reached, {AIM:g} % aimed at. {judged['intervals_held']} intervals "
        "held. "
        f"All are scaled by one package, whose divergence was {said(judged['first'], 5)} nats a token: the "
        "further from it, the wider the interval, by as much as these plans were found to need."
    )
    return f"{text}\n\n{markdown(['plan', 'predicted', 'measured', 'off by, %'], rows)}"
