"""Gates and what was measured for them: the questions that are decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphopt.gate._bounds import Gate
from graphopt.gate._config import GateSettings
from graphopt.gate._decision import Answer, Decision, Question, decide
from graphopt.metrics import Sample

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """A gate with each sample of its metric: one for every output and domain that the data has."""

    gates: tuple[Gate, ...]
    questions: tuple[Question, ...]

    @classmethod
    def of(cls, gates: Iterable[Gate], samples: Sequence[Sample]) -> Asked:
        """What can be asked of `samples`."""
        pairs = [
            (gate, Question(sample, gate.operator, gate.bound, gate.relative))
            for gate in gates
            for sample in samples
            if sample.metric == gate.metric
        ]
        return cls(tuple(gate for gate, _ in pairs), tuple(question for _, question in pairs))

    def decided(self, settings: GateSettings, look: tuple[int, int] | None = None) -> Decision:
        """The verdicts, as `settings` say; `look` as for `decide`."""
        return decide(
            self.questions, confidence=settings.confidence, correction=settings.correction, look=look
        )

    def open(self, decision: Decision, metrics: frozenset[str]) -> list[Answer]:
        """The undecided ones of `decision` that are about one of `metrics`."""
        return [
            answer
            for gate, answer in zip(self.gates, decision.answers, strict=True)
            if gate.metric in metrics and answer.verdict == "inconclusive"
        ]
