"""A refined head: the best scores are those of eight bits, and it is found again by who moves it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes import refine_head

from graphopt.pipeline import Mismatch
from graphopt.recipes import Step
from graphopt.testing import outputs, session
from tests.passes._canonical import Call, Domain, Shape
from tests.passes._other_weights import verdicts, verified
from tests.passes._runs import Lowered

BEST = 2
SHAPE = Shape(layers=1)
EIGHT = Step("quantize-weights", {"bits": 8, "block_size": 16, "smallest": 1, "embedding": "all"})
REFINED = Step("refine-head", {"best": BEST, "block_size": 16})


def _logits(lowered: Lowered) -> np.ndarray[Any, Any]:
    case = Domain(SHAPE).case(Call("prefill", 2, 5, 0), np.random.default_rng(0))
    found: np.ndarray[Any, Any] = outputs(session(lowered.model), case.feeds)["logits"]
    return found


def test_the_best_scores_are_those_of_eight_bits() -> None:
    eight, refined = Lowered(SHAPE, EIGHT), Lowered(SHAPE, EIGHT, REFINED)
    assert refined.result.records[-1].applied == 1
    exact, made = _logits(eight), _logits(refined)
    off = np.abs(made - exact) / exact.std()
    # x is rounded to 8 bits in one of them.
    assert ((off < 0.02).sum(-1) >= BEST).all()
    assert np.median(off) > 0.02


def test_its_edits_are_judged_and_the_last_tokens_are_still_found() -> None:
    found = verified(SHAPE, EIGHT, REFINED, "last-token-head")
    assert verdicts(found, "refine-head") == {"within budget"}
    assert verdicts(found, "last-token-head") == {"proven"}


def test_scores_of_other_rows_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = refine_head.looked_up

    def next_rows(make: Any, ids: ir.Value, made: Any) -> ir.Value:
        one = make.constant(1, np.int64, "one")
        count = make.constant(made.rows, np.int64, "rows")
        after = make.op("Add", [ids, one], "after", like=ids)
        return right(make, make.op("Mod", [after, count], "wrong", like=ids), made)

    monkeypatch.setattr(refine_head, "looked_up", next_rows)
    with pytest.raises(Mismatch):
        verified(SHAPE, EIGHT, REFINED)
