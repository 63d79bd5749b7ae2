"""Edits that are right at the first positions of a model and wrong at later ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_models.causal_lm import CausalLM

from graphopt.families import InputDomain
from graphopt.interface import Interface
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Contract
from graphopt.verify import EditVerifier
from tests.verify._planted import Build, instead

POSITIONS = 2048
MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (int64[batch,sequence] input_ids, int64[batch,total] attention_mask, int64[batch,sequence] position_ids,
   float[batch,2,past,4] "past_key_values.0.key", float[batch,2,sequence,4] x)
  => (float[batch,sequence,8] turned, float[batch,sequence,8] computed)
<float[8] frequencies = {1.0, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0001}>
{
  turned = Gather<axis = 0>(table, position_ids)
  axis = Constant<value = int64[1] {-1}>()
  place = Cast<to = 1>(position_ids)
  column = Unsqueeze(place, axis)
  angle = Mul(column, frequencies)
  computed = Cos(angle)
}
"""


def weight(array: np.ndarray, name: str) -> ir.Value:
    tensor = ir.tensor(array)
    shape, kind = ir.Shape(array.shape), ir.TensorType(tensor.dtype)
    return ir.Value(name=name, shape=shape, type=kind, const_value=tensor)


def table(wrong: int | None = None) -> np.ndarray:
    frequencies = np.asarray([1, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0001], np.float32)
    made = np.cos(np.arange(POSITIONS, dtype=np.float32)[:, None] * frequencies)
    if wrong is not None:
        made[wrong] += 0.01
    return made


@pytest.fixture
def model() -> ir.Model:
    made = parse(MODEL.replace("float[batch,2,sequence,4] x", f"float[{POSITIONS},8] table"))
    held = made.graph.inputs.pop()
    held.const_value = ir.tensor(table())
    made.graph.register_initializer(held)
    infer_types(made)
    return made


def legal(model: ir.Model) -> InputDomain:
    config = {"vocab_size": 32, "max_position_embeddings": POSITIONS}
    return CausalLM().input_domain(Interface.of(model), config)


@pytest.fixture
def verifier(model: ir.Model) -> Iterator[EditVerifier]:
    with EditVerifier(Interface.of(model), legal(model)) as made:
        yield made


def rounded(kind: ir.DataType) -> Build:
    """Positions go through a type that has not all of them."""

    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        positions = old.inputs[-1] if old.op_type == "Gather" else old.inputs[0]
        narrow = tape.op("Cast", [tape.op("Cast", [positions], {"to": 1})], {"to": kind.value})
        whole = tape.op("Cast", [narrow], {"to": 7 if old.op_type == "Gather" else 1})
        return whole if old.op_type == "Cast" else tape.op("Gather", [old.inputs[0], whole], {"axis": 0})

    return build


def looked_up(wrong: int | None) -> Build:
    """A new table of the same length, of the values that were computed or looked up."""

    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        graph = old.graph
        assert graph is not None
        positions = next(value for value in graph.inputs if value.name == "position_ids")
        made = tape.initializer(ir.tensor(table(wrong)), "table2")
        return tape.op("Gather", [made, positions], {"axis": 0})

    return build


@pytest.mark.parametrize(
    ("output", "build", "status"),
    [
        pytest.param("turned", rounded(ir.DataType.BFLOAT16), "failed", id="gathered-bfloat16"),
        pytest.param("place", rounded(ir.DataType.BFLOAT16), "failed", id="computed-bfloat16"),
        pytest.param("turned", rounded(ir.DataType.FLOAT), "proven", id="gathered-float"),
        pytest.param("turned", looked_up(1500), "failed", id="wrong-row-of-a-copy"),
        pytest.param("turned", looked_up(POSITIONS - 1), "failed", id="wrong-last-row"),
        pytest.param("turned", looked_up(None), "proven", id="copy"),
        pytest.param("computed", looked_up(1500), "failed", id="wrong-row-of-what-was-computed"),
        pytest.param("computed", looked_up(None), "proven", id="what-was-computed"),
    ],
)
def test_every_position_counts(
    model: ir.Model, verifier: EditVerifier, output: str, build: Build, status: str
) -> None:
    found = verifier.check(model, instead(model, output, build), Contract.reassociates())

    assert (found.status, found.how) == (status, "numeric"), found.reason


def test_calls_at_the_end_take_no_memory(model: ir.Model) -> None:
    (case,) = legal(model).reaching(np.random.default_rng(0), POSITIONS - 5, 5)
    past = case.feeds["past_key_values.0.key"]

    assert case.feeds["position_ids"].tolist() == [list(range(POSITIONS - 5, POSITIONS))]
    assert case.feeds["attention_mask"].shape == (1, POSITIONS)
    assert past.shape == (1, 2, POSITIONS - 5, 4)
    assert past.strides == (0, 0, 0, 0)


def test_the_whole_is_compared_there_too(model: ir.Model) -> None:
    (case,) = legal(model).furthest(np.random.default_rng(0))

    assert case.feeds["position_ids"].tolist() == [[POSITIONS - 1]]
    assert case.feeds["past_key_values.0.key"].std() > 0.5
