"""Text, complex numbers and sequences: what is not a tensor of numbers is compared as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.io import parts_of
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Contract
from graphopt.verify import EditVerifier, Tolerance, compare
from tests.verify._planted import Build, instead

EXACT = Contract.exact()

TEXT = """
<ir_version: 10, opset_import: ["" : 23, "ai.onnx.ml" : 4]>
g (string[B,3] x) => (string[B,3] y, int64[B,3] z, string[B,3] t)
{
  y = StringConcat(x, x)
  z = ai.onnx.ml.LabelEncoder<keys_strings = ["one", "two"], values_int64s = [1, 2], default_int64 = -1>(x)
  t = Identity(x)
}
"""


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def encoder(two: int) -> Build:
    attributes = {"keys_strings": ["two", "one"], "values_int64s": [two, 1], "default_int64": -1}
    return lambda tape, old: tape.op("LabelEncoder", [old.inputs[0]], attributes, domain="ai.onnx.ml")


def concatenated(*words: str) -> Build:
    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        y = old.inputs[0]
        for number, word in enumerate(words):
            y = tape.op("StringConcat", [y, tape.initializer(ir.tensor([word]), f"word{number}")])
        return y

    return build


@pytest.mark.parametrize(
    ("output", "build", "status"),
    [
        ("t", concatenated(""), "proven"),
        ("t", concatenated("", "x"), "failed"),
        ("z", encoder(2), "proven"),
        ("z", encoder(3), "failed"),
    ],
)
def test_text_is_compared(
    verifier: EditVerifier, tmp_path: Path, output: str, build: Build, status: str
) -> None:
    model = parse(TEXT)
    infer_types(model)
    found = verifier.check(model, instead(model, output, build), EXACT, save=tmp_path / "seen")

    assert found.status == status, found.reason
    assert (tmp_path / "seen" / "inputs.npz").exists() == (status == "failed")


def test_text_that_has_to_be_a_number_is_one(verifier: EditVerifier) -> None:
    model = parse("""<ir_version: 10, opset_import: ["" : 23]>
        g (string[B] x) => (float[B] y) { y = Cast<to = 1>(x) }""")

    def twice(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        return tape.op("Neg", [tape.op("Neg", [tape.op("Cast", [old.inputs[0]], {"to": 1})])])

    def negative(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        return tape.op("Neg", [tape.op("Cast", [old.inputs[0]], {"to": 1})])

    assert verifier.check(model, instead(model, "y", twice), EXACT).status == "proven"
    assert verifier.check(model, instead(model, "y", negative), EXACT).status == "failed"


@pytest.mark.parametrize(("sizes", "status"), [([1, 2], "proven"), ([2, 1], "failed")])
def test_sequences_are_compared_part_by_part(verifier: EditVerifier, sizes: list[int], status: str) -> None:
    model = parse("""<ir_version: 10, opset_import: ["" : 23]>
        g (float[3,B] x) => (seq(float[N,B]) y) <int64[2] parts = {1, 2}> { y = SplitToSequence(x, parts) }
    """)

    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        return tape.op("SplitToSequence", [old.inputs[0], tape.initializer(ir.tensor(sizes), "others")])

    assert verifier.check(model, instead(model, "y", build), EXACT).status == status


def test_complex_numbers_are_compared() -> None:
    one, other = np.asarray([1 + 2j, complex("nan")]), np.asarray([1 + 2j, complex("nan")])
    assert compare(one, other, Tolerance())
    other[0] += 1e-9j
    assert not compare(one, other, Tolerance())


def test_the_arrays_of_an_output() -> None:
    array = np.zeros(2)
    assert dict(parts_of("y", array)) == {"y": array}
    found = dict(parts_of("y", [{"b": 2.0, "a": 1.0}, None]))
    assert list(found) == ["y.length", "y[0].keys", "y[0].values", "y[1].length"]
    assert found["y[0].keys"].tolist() == ["b", "a"]
    assert found["y[0].values"].tolist() == [2, 1]
    assert (found["y.length"], found["y[1].length"]) == (2, 0)
