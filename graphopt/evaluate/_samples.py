"""What a measurement of accuracy hands on: evidence by metric, and what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.metrics import Sample

__all__ = ["AccuracySamples"]


@dataclass(frozen=True)
class AccuracySamples:
    """Samples of a package's accuracy, and those of its baseline on the same data.

    `data` names what was measured on and `data_digest` is its `sha256:...`, empty for what was drawn at
    random; `tokens` is how many tokens of text, 0 where it was none. `notes` are for people.
    """

    samples: tuple[Sample, ...]
    data: str
    data_digest: str = ""
    tokens: int = 0
    notes: tuple[str, ...] = ()
