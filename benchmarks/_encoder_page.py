"""Tables of docs/encoders.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _page import Figures, markdown, middle_of, said

GOALS = Path(__file__).parent / "encoder_goals.json"
FILES = ("encoder",)
INT8 = "graphopt int8"
THREADS = (1, 2)
CALLS = {
    "all-MiniLM-L6-v2, 32 x 128 tokens": {"model": "minilm", "batch": 32, "tokens": 128, "ragged": False},
    "all-MiniLM-L6-v2, 32 texts of 32 to 128 tokens": {
        "model": "minilm",
        "batch": 32,
        "tokens": 128,
        "ragged": True,
    },
    "BERT-base's shape, 8 x 128 tokens": {"model": "bert-base", "batch": 8, "tokens": 128, "ragged": False},
    "BERT-base's shape, 32 x 128 tokens": {"model": "bert-base", "batch": 32, "tokens": 128, "ragged": False},
}
PEERS = (
    INT8,
    f"{INT8} again",
    "onnxruntime fp32, as exported",
    "onnxruntime.transformers fp32",
    "onnxruntime.transformers, quantize_dynamic",
    "OpenVINO int8",
)
LEAST_COSINE = 0.998
"""Of a sentence of MiniLM's with fp32's: the goal, since 2026-11-28."""
NOT_YET = "not measured"


def goals(figures: Figures) -> str:
    """What was to be reached, and what was, by threads; bold where missed."""
    rows = []
    for goal in figures.goals:
        found = [
            figures.get("encoder", "goals", goal["peer"], "int8_is", threads=count, **goal["call"])
            for count in THREADS
        ]
        shown = [
            _judged(said(one) or NOT_YET, one is None or middle_of(one) >= goal["must"]) for one in found
        ]
        rows.append([goal["what"], f"{goal['must']:g}", f"{goal['aim']:g}", *shown])
    cosine = figures.get("encoder", "cosine", INT8, "cosine", model="minilm")
    shown = [_judged(said(cosine, 4) or NOT_YET, cosine is None or cosine >= LEAST_COSINE)]
    rows.append(["MiniLM: least cosine of a sentence with fp32's", f"{LEAST_COSINE:g}", "", *shown, ""])
    return markdown(["", "must", "aim", *(f"{count} thread{'s' * (count > 1)}" for count in THREADS)], rows)


def _judged(text: str, met: bool) -> str:
    return text if met else f"**{text}**"


def calls(figures: Figures, call: str) -> str:
    """Everyone in one call, on one thread and two."""
    rows = []
    for peer in PEERS:
        row = [peer.replace(" again", " (A/A)")]
        for count in THREADS:
            measured = figures.row("encoder", "goals", peer, threads=count, **CALLS[call])
            row += [_milliseconds(measured), said(measured.get("int8_is")) if measured else ""]
        cosine = figures.get("encoder", "cosine", peer, "cosine", model=CALLS[call]["model"])
        rows.append([*row, said(cosine, 4)])
    heads = [f"{head}, {n} thread{'s' * (n > 1)}" for n in THREADS for head in ("ms", "graphopt int8 is")]
    return markdown(["", *heads, "least sentence cosine"], rows)


def _milliseconds(measured: dict[str, Any] | None) -> str:
    """The median of processes, and the fastest's and the slowest's."""
    if measured is None:
        return NOT_YET
    if "failed" in measured:
        return str(measured["failed"])
    return f"{measured['ms']:.1f} ({measured['least']:.1f} to {measured['most']:.1f})"


def commands(figures: Figures) -> list[str]:
    """Those that measured what is shown."""
    file = figures.files.get("encoder")
    found = [t.command for t in file.tables if t.name == "goals"] if file else []
    return list(dict.fromkeys(found)) or ["python benchmarks/encoder.py --goals"]
