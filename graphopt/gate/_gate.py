"""Whether a package may ship: `graphopt.gate.gate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from graphopt.errors import BadInput
from graphopt.gate._asked import Asked
from graphopt.gate._baseline import find_baseline
from graphopt.gate._bounds import Gate
from graphopt.gate._budget import budget_gates
from graphopt.gate._config import Gates
from graphopt.gate._decision import Answer
from graphopt.gate._measuring import AsPackage, Measuring, Say
from graphopt.gate._provenance import provenance
from graphopt.gate._stored import raw_samples
from graphopt.metrics import Turns, control
from graphopt.package import RunnablePackage, Unchanged
from graphopt.report import GateOutcome, GateReport, GateVerdict, Generation

__all__ = ["GateOptions", "gate"]


@dataclass(frozen=True)
class GateOptions:
    """`gates` are what to hold the package to, its recipe's budget where there are none. `reference` is what
    accuracy is measured against: by default what the baseline is, or what a stored result was. `answers`:
    where accuracy is measured, texts are generated for people to read, even if no gate is about them."""

    gates: Gates = field(default_factory=Gates)
    reference: str | None = None
    answers: bool = False
    trust_remote_code: bool = False


def gate(
    package: RunnablePackage,
    baseline: str,
    *,
    options: GateOptions,
    as_package: AsPackage | None = None,
    say: Say = lambda _: None,
) -> GateReport:
    """Hold `package` to its gates beside `baseline`: a package, a source, or the result file of a gate.

    `as_package` makes a package of a source, which gates of speed and size beside one need.

    Raises `BadInput` for gates that cannot be measured here, a baseline that is another model, and a package
    that changes meanwhile.
    """
    beside = find_baseline(baseline, options.trust_remote_code)
    beside.require_like(package)
    reference = options.reference or (beside.result.provenance.reference if beside.result else baseline)
    settings = options.gates.settings
    gates = options.gates.gates or budget_gates(package, beside_package=beside.package is not None)
    with Unchanged(package.path, *([beside.path] if beside.package is not None else [])) as unchanged:
        run = Measuring(
            package,
            beside,
            reference,
            gates,
            settings,
            as_package,
            unchanged,
            say,
            options.answers,
            options.trust_remote_code,
        )
        found = provenance(package, baseline, beside.path, reference, settings.threads)
        run.measure()
    asked = Asked.of(gates, run.samples)
    decision = asked.decided(settings, run.look)
    outcomes = [_outcome(*pair, run.details) for pair in zip(asked.gates, decision.answers, strict=True)]
    outcomes += [_not_measured(gate, run.not_run) for gate in _without(gates, asked.gates)]
    return GateReport(
        verdict=_together([outcome.verdict for outcome in outcomes]),
        inconclusive=settings.inconclusive,
        correction=settings.correction,
        confidence=settings.confidence,
        outcomes=outcomes,
        control=_controls(run),
        generations=[Generation(**asdict(one)) for one in run.generated],
        notes=run.notes,
        seconds=run.seconds,
        provenance=found.model_copy(
            update={"data": run.data, "data_digest": run.data_digest, "tokens": run.tokens}
        ),
        samples=raw_samples(run.samples),
    )


def _outcome(gate: Gate, answer: Answer, details: Mapping[str, str]) -> GateOutcome:
    detail = details.get(gate.metric, "") if answer.verdict != "pass" else ""
    return GateOutcome(
        text=gate.text,
        where=gate.where,
        metric=gate.metric,
        scope=answer.question.sample.scope,
        operator=gate.operator,
        bound=gate.bound,
        relative=gate.relative,
        value=answer.estimate.value,
        low=answer.estimate.low,
        high=answer.estimate.high,
        own=answer.own,
        baseline=answer.baseline,
        exact=answer.exact,
        units=answer.units,
        p=answer.p,
        adjusted_p=answer.adjusted_p,
        verdict=answer.verdict,
        reason=": ".join(filter(None, (answer.reason, detail))),
        needed=answer.needed,
    )


def _without(gates: Iterable[Gate], measured: Iterable[Gate]) -> list[Gate]:
    known = set(measured)
    return [gate for gate in gates if gate not in known]


def _not_measured(gate: Gate, why: str) -> GateOutcome:
    """A gate that nothing was measured for. `BadInput` where no other gate is the reason."""
    if not why:
        raise BadInput(
            f"{gate.where}: {gate.metric} cannot be measured of this package",
            hint="`graphopt validate` and `graphopt bench` show what can be.",
        )
    nan = float("nan")
    return GateOutcome(
        text=gate.text,
        where=gate.where,
        metric=gate.metric,
        operator=gate.operator,
        bound=gate.bound,
        relative=gate.relative,
        value=nan,
        low=nan,
        high=nan,
        own=nan,
        verdict="inconclusive",
        reason=f"not measured: {why}",
    )


def _together(verdicts: Iterable[GateVerdict]) -> GateVerdict:
    found = set(verdicts)
    return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"


def _controls(run: Measuring) -> dict[str, tuple[float, float, float]]:
    return {
        sample.metric: (found.value, found.low, found.high)
        for sample in run.samples
        if isinstance(sample.evidence, Turns) and sample.evidence.control is not None
        for found in [control(sample.evidence)]
    }
