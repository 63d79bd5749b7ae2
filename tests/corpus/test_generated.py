"""A slice of the generated graphs; `python -m tests.corpus.generated` examines many."""

from __future__ import annotations

import numpy as np
import pytest

from tests.corpus import generated
from tests.corpus._program import program
from tests.corpus._statements import STATEMENTS
from tests.corpus.generated import examine

SLICE = 10
MANY = 300


@pytest.mark.parametrize("number", range(SLICE))
def test_a_generated_graph_is_equal_at_the_defaults(number: int) -> None:
    assert examine(program(number)) == {"outcome": "equal", "reason": ""}


def test_a_number_always_makes_the_same_graph() -> None:
    first, again = program(1), program(1)
    assert first.model == again.model
    for one, other in zip(first.calls, again.calls, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_they_hold_sixty_operators_subgraphs_and_functions() -> None:
    operators, functions = set(), 0
    for number in range(MANY):
        model = program(number).model
        functions += len(model.functions)
        operators |= {node.op_type for node in model.graph.node if not node.domain}
    assert len(operators) >= 60
    assert {"If", "Loop", "NonZero", "Range", "Scan"} <= operators
    assert functions > 10
    assert len({statement.__name__ for statement in STATEMENTS}) >= 40


def test_a_wrong_result_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [np.zeros(1)]
    monkeypatch.setattr(generated, "_tried", lambda session, feeds: wrong)
    assert examine(program(1))["outcome"] == "differs"
