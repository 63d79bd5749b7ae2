"""What a measurement of accuracy hands on: evidence by metric, and what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.metrics import Sample

__all__ = ["AccuracySamples", "Generated"]


@dataclass(frozen=True)
class Generated:
    """A greedily generated answer beside the reference's; the fields are `graphopt.report.Generation`'s."""

    prompt: str
    reference: str
    answer: str
    reference_tokens: int
    answer_tokens: int
    agreed: int
    agreed_text: int


@dataclass(frozen=True)
class AccuracySamples:
    """Samples of a package's accuracy, and those of its baseline on the same data.

    `data` names what was measured on and `data_digest` is its `sha256:...`, empty for what was drawn at
    random; `tokens` is how many tokens of text, 0 where it was none. `generations` are answers beside the
    reference's, where text was generated; `notes` are for people.
    """

    samples: tuple[Sample, ...]
    data: str
    data_digest: str = ""
    tokens: int = 0
    notes: tuple[str, ...] = ()
    generations: tuple[Generated, ...] = ()
