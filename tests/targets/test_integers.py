"""What the target says it computes in integers of 8 bits is what onnxruntime does."""

from __future__ import annotations

import pytest
from graphopt_targets.cpu import CpuTarget
from graphopt_targets.cpu._integers import _CASES

CAPABILITIES = CpuTarget().capabilities()


@pytest.mark.parametrize("op_type", _CASES)
def test_every_operator_of_the_table_has_integers_here(op_type: str) -> None:
    assert CAPABILITIES.computes_in_integers(op_type)


@pytest.mark.parametrize("op_type", ["HardSigmoid", "ConvTranspose", "LSTM", "NoSuchOperator"])
def test_others_have_none(op_type: str) -> None:
    assert not CAPABILITIES.computes_in_integers(op_type)
