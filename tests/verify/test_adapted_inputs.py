"""Edits that take away inputs and add others are run on what their adapters make of the same feeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.interface import Adapter
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Contract, Edit
from graphopt.verify import EditVerifier

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x, float[B,4] z) => (float[B,4] y) { a = Neg(x)  y = Add(a, z) }
"""


@dataclass(frozen=True)
class Renamed(Adapter):
    """`old` is called `new`, and `factor` times as large."""

    kind: ClassVar[str] = "test-renamed"
    old: str
    new: str
    factor: float = 1.0

    def feeds(self, old: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        rest = {name: array for name, array in old.items() if name != self.old}
        return {**rest, self.new: old[self.old] * np.float32(self.factor)}


def renaming(model: ir.Model, adapter: Renamed) -> Edit:
    old = next(value for value in model.graph.inputs if value.name == adapter.old)
    new = ir.Value(name=adapter.new, shape=old.shape, type=old.type)
    return Edit("another name", replace={old: new}, drop_inputs=[old], add_inputs=[new], adapter=adapter)


@pytest.mark.parametrize(
    ("adapter", "status"),
    [
        (Renamed("x", "x2"), "proven"),
        (Renamed("x", "x2", factor=1.001), "failed"),
        (Renamed("z", "z2"), "proven"),
    ],
    ids=str,
)
def test_a_float_input_is_renamed(adapter: Renamed, status: str) -> None:
    model = parse(MODEL)
    infer_types(model)
    with EditVerifier() as verifier:
        found = verifier.check(model, renaming(model, adapter), Contract.exact())
        again = verifier.check(model, renaming(model, adapter), Contract.exact(), [Renamed("q", "r")])

    assert (found.status, found.how) == (status, "numeric")
    assert again.status == status


def test_an_adapter_that_fails_decides_nothing() -> None:
    model = parse(MODEL)
    infer_types(model)
    edit = renaming(model, Renamed("x", "x2"))
    edit.adapter = Renamed("no such input", "x2")
    with EditVerifier() as verifier:
        found = verifier.check(model, edit, Contract.exact())

    assert found.status == "unproven"
    assert "its adapter fails: KeyError" in found.reason
