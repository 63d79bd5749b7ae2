"""The result of a gate: what was asked, what was found and how sure that is, and what it was found with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "GateOutcome",
    "GateReport",
    "GateVerdict",
    "Generation",
    "Provenance",
    "RawSample",
]

GateVerdict = Literal["pass", "fail", "inconclusive"]


class _Model(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings", defer_build=True)


class GateOutcome(_Model):
    """One gate: `metric` (a key of `graphopt.metrics.METRICS`) `operator` `bound`, and what came of it.

    `value` [`low`, `high`] is what is compared with `bound`: the package's own value in the metric's unit, or
    where the gate is `relative` that over the baseline's. `own` and `baseline` are the two values themselves.
    `exact`: chance has no part in it, and the interval is the value. `units` is how many documents, calls or
    blocks of processes it rests on. `p` is the probability of evidence this strong that the gate is broken
    while it holds, `adjusted_p` the same corrected for the number of gates. `reason` says why the verdict is
    not pass, `needed` what would decide: more tokens, or the finest bound that this machine can. `text` is
    the gate as it was written, `where` the file and line, or "command line", or "recipe".
    """

    text: str
    where: str
    metric: str
    scope: str = ""
    operator: Literal["<=", ">=", "<", ">", "=="]
    bound: float
    relative: bool = False
    value: float
    low: float
    high: float
    own: float
    baseline: float | None = None
    exact: bool = False
    units: int = 0
    p: float | None = None
    adjusted_p: float | None = None
    verdict: GateVerdict
    reason: str = ""
    needed: str = ""


class RawSample(_Model):
    """`graphopt.metrics.Sample` as JSON. `kind` is that of its evidence; arrays are lists, by document or by
    block; those of an exact value are one value."""

    metric: str
    scope: str = ""
    kind: Literal["exact", "documents", "turns"]
    statistic: Literal["mean", "exp_mean", "p99", "average_precision"] = "mean"
    names: list[str] = Field(default_factory=list)
    values: list[list[float]]
    baseline: list[list[float]] | None = None
    control: list[list[float]] | None = None


class Generation(_Model):
    """A greedily generated answer beside the reference's. `agreed` is how many tokens both begin with, and
    `agreed_text` how many characters of `answer` these are."""

    prompt: str
    reference: str
    answer: str
    reference_tokens: int
    answer_tokens: int
    agreed: int
    agreed_text: int


class Provenance(_Model):
    """What makes the result again, or tells why another is not the same. Digests are `sha256:...` of a
    package's files together; `command` is what was typed. `interface` and `census` are those of the package's
    graphs: "input NAME" and "output NAME" with dtype and shape, and how many nodes of each kind there are."""

    graphopt: str
    package: str
    package_digest: str
    baseline: str
    baseline_digest: str = ""
    reference: str = ""
    data: str = ""
    data_digest: str = ""
    tokens: int = 0
    task: str = ""
    target: str = ""
    interface: dict[str, str] = Field(default_factory=dict)
    census: dict[str, int] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    cpu: str = ""
    threads: int = 0
    system: str = ""
    seeds: dict[str, int] = Field(default_factory=dict)
    date: str = ""
    commit: str = ""
    command: list[str] = Field(default_factory=list)


class GateReport(_Model):
    """The whole of a result file. `verdict` is the family-wise decision over `outcomes` by `correction`.

    `inconclusive` says what that verdict was asked to count as. `control` is by metric of speed the ratio of
    the package to itself: value, low, high.
    """

    version: Literal[1] = 1
    verdict: GateVerdict
    inconclusive: Literal["pass", "fail", "report"] = "report"
    correction: Literal["holm", "benjamini-hochberg"] = "holm"
    confidence: float = 0.95
    outcomes: list[GateOutcome]
    control: dict[str, tuple[float, float, float]] = Field(default_factory=dict)
    generations: list[Generation] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    provenance: Provenance
    samples: list[RawSample] = Field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
