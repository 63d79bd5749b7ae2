"""report.json: what each pass did, cost and proved, and what the closing check found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graphopt.plan import Plan
from graphopt.report._coverage import CoverageReport
from graphopt.report._graph_view import GraphView
from graphopt.report._prediction import PredictionReport

if TYPE_CHECKING:
    from graphopt.evaluate import ClosingCheck
    from graphopt.pipeline import PassRecord

__all__ = [
    "PAGE",
    "REPORT",
    "ClosingReport",
    "EditReport",
    "MetricReport",
    "MissReport",
    "PassReport",
    "Report",
    "Sizes",
]

REPORT = "report.json"
PAGE = "report.html"


_ByRole = Mapping[str, Mapping[str, float]]
"""Seconds by the name of a node, by role of its graph."""


class EditReport(BaseModel):
    """One edit: its number within the pass, its stable identity, and what became of it.

    `verdict` is what checking it came to (None: not checked), `how` by what: a structural proof, numeric, or
    deduplicated (an equal piece of the graph was checked before). `value` is the worst difference met, in the
    terms of the pass's contract, and `bound` what it may be.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    number: int
    identity: str
    summary: str
    outcome: Literal["applied", "refused", "rolled back"]
    proof: str | None = None
    verdict: Literal["proven", "within budget", "unproven", "failed"] | None = None
    how: str = ""
    reason: str = ""
    value: float = 0.0
    bound: float = 0.0


class MissReport(BaseModel):
    """A place where a pass almost matched, and the condition that failed."""

    where: str
    reason: str


class IslandReport(BaseModel):
    """Nodes that a runtime computes in floats beside integers, by name, their operators, and why."""

    nodes: list[str]
    operators: list[str]
    reason: str


class PassReport(BaseModel):
    """One step of the recipe over one graph. Bytes are those of the weights; seconds include checking. Reads
    and flops are those of a call where every size that varies is 1, of a decoder a token after nothing.

    `role` is the graph's, "model" where there is one. `cached`: the step's result is an earlier run's, and so
    are the seconds.
    """

    role: str = "model"
    step: str
    level: str
    contract: str
    options: dict[str, Any] = Field(default_factory=dict)
    edits: list[EditReport] = Field(default_factory=list)
    near_misses: list[MissReport] = Field(default_factory=list)
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    reads_before: int = 0
    reads_after: int = 0
    flops_before: int = 0
    flops_after: int = 0
    seconds: float
    check_seconds: float = 0.0
    modified: bool
    skipped: str | None = None
    proved: str = ""
    cached: bool = False

    @property
    def title(self) -> str:
        """The step, and of which graph where there are several."""
        return self.step if self.role == "model" else f"{self.role}: {self.step}"

    @property
    def applied(self) -> int:
        """How many edits are in force."""
        return sum(edit.outcome == "applied" for edit in self.edits)

    @property
    def proofs(self) -> Counter[str]:
        """How many of the edits in force carry each kind of structural proof."""
        return Counter(e.proof for e in self.edits if e.outcome == "applied" and e.proof)

    @property
    def verdicts(self) -> Counter[str]:
        """How many of the edits in force are proven, within budget, unproven."""
        return Counter(e.verdict for e in self.edits if e.outcome == "applied" and e.verdict)

    @classmethod
    def of(cls, record: PassRecord, role: str = "model") -> PassReport:
        """The report of what the engine recorded."""
        return cls(
            role=role,
            step=record.step,
            level=record.level,
            contract=record.contract,
            options=dict(record.options),
            edits=[EditReport(**vars(edit)) for edit in record.edits],
            near_misses=[MissReport(where=miss.where, reason=miss.reason) for miss in record.near_misses],
            nodes_before=record.nodes_before,
            nodes_after=record.nodes_after,
            bytes_before=record.bytes_before,
            bytes_after=record.bytes_after,
            reads_before=record.reads_before,
            reads_after=record.reads_after,
            flops_before=record.flops_before,
            flops_after=record.flops_after,
            seconds=record.seconds,
            check_seconds=record.check_seconds,
            modified=record.modified,
            skipped=record.skipped,
            proved=record.proved,
            cached=record.cached,
        )


class MetricReport(BaseModel):
    """A metric of one output in one case of the closing check, by its key in `graphopt.metrics.METRICS`.

    A value that is not finite is written as a string: JSON has no other way.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    case: str
    output: str
    metric: str
    value: float
    bound: float
    holds: bool


class ClosingReport(BaseModel):
    """The package on its target against the source: what was compared, and the verdict."""

    verdict: Literal["passed", "failed", "inconclusive", "not run"]
    reference: str = ""
    reason: str = ""
    metrics: list[MetricReport] = Field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, check: ClosingCheck) -> ClosingReport:
        """The report of a check that ran."""
        return cls(
            verdict=check.verdict,
            reference=check.reference,
            reason=check.reason,
            metrics=[MetricReport(**vars(one), holds=one.holds) for one in check.metrics],
            seconds=check.seconds,
        )


class Sizes(BaseModel):
    """Bytes of weights as the source stores them and as the package does, and of all the package's files."""

    source_weight_bytes: int
    package_weight_bytes: int
    package_bytes: int


class Report(BaseModel):
    """The whole of report.json. `seconds` are by phase; `peak_memory` is this process's, in bytes.

    `views` show each graph before and after, by role, `plans` why weights are stored as they are, and
    `islands` what the runtime computes in floats beside integers, `coverage` where nodes run, if the target's
    execution provider is not the one that runs everything.
    `prediction` is what the profile of this machine says of the package, where there is one.
    `export_cached`: an earlier run exported the model. `versions` are those of the libraries, `machine` what
    the target found.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    version: Literal[1] = 1
    graphopt: str
    source: str
    out: str
    task: str
    family: str | None
    target: str
    recipe: str
    lossless: bool
    verify: str
    export_cached: bool = False
    passes: list[PassReport] = Field(default_factory=list)
    closing: ClosingReport
    sizes: Sizes
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory: int = 0
    notes: list[str] = Field(default_factory=list)
    assumptions: dict[str, str] = Field(default_factory=dict)
    plans: dict[str, Plan] = Field(default_factory=dict)
    islands: dict[str, list[IslandReport]] = Field(default_factory=dict)
    coverage: dict[str, CoverageReport] = Field(default_factory=dict)
    prediction: PredictionReport | None = None
    views: dict[str, GraphView] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str] = Field(default_factory=dict)

    def timed(self, seconds: _ByRole, before: _ByRole | None = None) -> Report:
        """The same, its views with what `graphopt.evaluate.profile` measured of the package, and of the
        source as it is exported, by role."""
        views = {
            role: view.timed(seconds.get(role, {}), None if before is None else before.get(role, {}))
            for role, view in self.views.items()
        }
        return self.model_copy(update={"views": views})

    def write(self, path: Path) -> None:
        """Write it as JSON, the views without the space that makes the rest readable."""
        rest = self.model_dump_json(indent=2, exclude={"views"}).removesuffix("\n}")
        views = self.model_dump_json(include={"views"})[1:-1]
        path.write_text(f"{rest},\n  {views}\n}}\n", encoding="utf-8")
