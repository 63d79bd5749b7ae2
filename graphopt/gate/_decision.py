"""From evidence to a verdict: each gate's own, and that of all gates together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from graphopt.errors import BadInput
from graphopt.gate._bounds import Operator
from graphopt.gate._weigh import Finding, weigh
from graphopt.metrics import Documents, Estimate, Evidence, Exact, Sample, benjamini_hochberg, holm, infer

__all__ = ["Answer", "Correction", "Decision", "Question", "Verdict", "decide"]

Verdict = Literal["pass", "fail", "inconclusive"]
Correction = Literal["holm", "benjamini-hochberg"]


@dataclass(frozen=True)
class Question:
    """Whether what `sample` measured is `operator` `bound`, `relative`: over the baseline's."""

    sample: Sample
    operator: Operator
    bound: float
    relative: bool = False


@dataclass(frozen=True)
class Answer:
    """The verdict on a question, and what it rests on.

    `estimate` is what is compared with the bound, `own` and `baseline` are the two values themselves. Where
    it is `exact`, chance has no part in it. `p` is the probability of evidence this strong that the gate is
    broken while it holds (over all looks, for speed), `adjusted_p` the same for all gates together. `units`
    is how many documents or blocks it rests on. `reason` says why it did not pass, `needed` what would
    decide.
    """

    question: Question
    verdict: Verdict
    estimate: Estimate
    own: float
    baseline: float | None
    exact: bool
    units: int
    p: float | None = None
    adjusted_p: float | None = None
    reason: str = ""
    needed: str = ""


@dataclass(frozen=True)
class Decision:
    """What is said of all gates together, and of each in the order they were asked."""

    verdict: Verdict
    answers: tuple[Answer, ...]


def decide(
    questions: Sequence[Question],
    *,
    confidence: float = 0.95,
    correction: Correction = "holm",
    look: tuple[int, int] | None = None,
) -> Decision:
    """The verdicts on `questions`.

    A gate *fails* where the evidence that it is broken would come up by chance with a probability of at most
    half of 1 - `confidence`, corrected for the number of gates. It *passes* where its whole interval keeps
    the bound. Else it is *inconclusive*. All together fail if one does and pass if all do, which needs no
    correction, because all have to pass (intersection-union test; Berger 1982, Technometrics 24). Exact
    values decide by themselves, and NaN fails.

    `look` is how many blocks of turns there are, and of how many at most. Where blocks are added until speed
    is decided, each look may be wrong, so all of them have stricter levels (`level_at`). Without it the
    blocks are all there will be and are looked at once. A speed relative to the baseline's is not decided
    finer than the package differs from itself in the same run.

    Raises `BadInput` for a relative gate of what was not measured of a baseline.
    """
    for question in questions:
        if question.relative and question.sample.evidence.baseline is None:
            raise BadInput(
                f"{question.sample.title} is gated relative to a baseline, of which it was not measured",
                hint="Name a package or source as the baseline, or write the bound without x.",
            )
    alpha = (1 - confidence) / 2
    found = [weigh(q.sample.evidence, q.operator, q.bound, q.relative, alpha, look) for q in questions]
    adjust = holm if correction == "holm" else benjamini_hochberg
    chance = [i for i, question in enumerate(questions) if not isinstance(question.sample.evidence, Exact)]
    adjusted = dict(zip(chance, adjust([found[i].broken for i in chance]), strict=True))
    answers = tuple(
        _answer(question, finding, adjusted.get(i), alpha)
        for i, (question, finding) in enumerate(zip(questions, found, strict=True))
    )
    verdicts = {answer.verdict for answer in answers}
    order: tuple[Verdict, ...] = ("fail", "inconclusive", "pass")
    return Decision(next((v for v in order if v in verdicts), "pass"), answers)


def _answer(question: Question, finding: Finding, adjusted: float | None, alpha: float) -> Answer:
    evidence = question.sample.evidence
    verdict: Verdict = "inconclusive"
    if (finding.broken if adjusted is None else adjusted) <= alpha:
        verdict = "fail"
    elif finding.kept <= alpha:
        verdict = "pass"
    answer = Answer(
        question,
        verdict,
        finding.estimate,
        own=infer(evidence).value,
        baseline=_baseline(evidence),
        exact=adjusted is None,
        units=finding.units,
        p=None if adjusted is None else finding.broken,
        adjusted_p=adjusted,
    )
    if verdict == "fail":
        return replace(answer, reason=finding.why_broken)
    if verdict == "pass":
        return answer
    if finding.broken <= alpha:
        why = f"{finding.why_broken}, but with so many gates that may be chance"
        return replace(answer, reason=why, needed=finding.needed())
    return replace(answer, reason=finding.why_open, needed=finding.needed())


def _baseline(evidence: Evidence) -> float | None:
    if evidence.baseline is None:
        return None
    if isinstance(evidence, Exact):
        return evidence.baseline
    if isinstance(evidence, Documents):
        return infer(replace(evidence, values=evidence.baseline)).value
    return infer(replace(evidence, values=evidence.baseline)).value
