"""last-token-head: which positions are scored, and for which heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes._adapters import LastTokenLogits
from graphopt_passes.last_token_head import LastTokenHead

from graphopt.families import Case
from graphopt.ir import to_proto
from graphopt.pipeline import Context, NearMiss
from graphopt.testing import outputs, session
from tests.passes._canonical import Call, Domain, Shape, canonical_decoder
from tests.passes._runs import Lowered

Array = np.ndarray[Any, Any]
SHAPE = Shape(final_softcap=4.0)


@pytest.fixture(scope="module")
def made() -> Lowered:
    return Lowered(SHAPE, "last-token-head")


@pytest.fixture(scope="module")
def right_padded() -> Case:
    return Domain(SHAPE).case(Call("chunk", 3, 5, 4, "right"), np.random.default_rng(0))


def _expected(case: Case) -> Array:
    logits: Array = outputs(session(canonical_decoder(SHAPE)), case.feeds)["logits"]
    return logits


def test_each_row_gives_its_last_token(made: Lowered, right_padded: Case) -> None:
    last = right_padded.feeds["attention_mask"][:, 4:].sum(1) - 1
    assert last.tolist() == [4, 3, 2]
    got = outputs(session(made.model), right_padded.feeds)["logits"]
    np.testing.assert_allclose(got[:, 0], _expected(right_padded)[np.arange(3), last], atol=1e-6)


def test_left_padding_ends_with_a_token(made: Lowered) -> None:
    case = Domain(SHAPE).case(Call("prefill", 3, 7, 0, "left"), np.random.default_rng(0))
    got = outputs(session(made.model), case.feeds)["logits"]
    np.testing.assert_allclose(got, _expected(case)[:, -1:], atol=1e-6)


def test_two_positions_end_with_the_last_token(made: Lowered, right_padded: Case) -> None:
    feeds = {**right_padded.feeds, "logits_to_keep": np.asarray([2], np.int64)}
    got, expected = outputs(session(made.model), feeds)["logits"], _expected(right_padded)
    for row, last in enumerate((4, 3, 2)):
        np.testing.assert_allclose(got[row], expected[row, last - 1 : last + 1], atol=1e-6)


def test_the_adapter_asks_for_every_position(made: Lowered, right_padded: Case) -> None:
    (adapter,) = made.result.adapters
    assert adapter == LastTokenLogits("logits_to_keep", "input_ids", "logits")
    np.testing.assert_array_equal(made.run(right_padded.feeds)["logits"], _expected(right_padded))


def test_the_interface_says_one_position_and_a_default(made: Lowered) -> None:
    proto = to_proto(made.model)
    (logits,) = (output for output in proto.graph.output if output.name == "logits")
    assert [d.dim_value or d.dim_param for d in logits.type.tensor_type.shape.dim] == [
        "batch",
        1,
        SHAPE.vocab,
    ]
    assert proto.graph.input[-1].name == "logits_to_keep"
    assert "logits_to_keep" in {weight.name for weight in proto.graph.initializer}


def test_a_quantized_head_is_pruned_too() -> None:
    model = canonical_decoder(Shape())
    head = model.graph.node("logits/MatMul")
    assert head is not None
    logits = head.outputs[0]
    packed = [
        ir.tensor(np.full((53, 2, 16), 0x79, np.uint8), name="packed"),
        ir.tensor(np.linspace(0.1, 1, 106, dtype=np.float32), name="scales"),
    ]
    weights = [
        ir.Value(name=t.name, const_value=t, type=ir.TensorType(t.dtype), shape=ir.Shape(t.shape.numpy()))
        for t in packed
    ]
    attributes = {"K": 48, "N": 53, "bits": 4, "block_size": 32}
    made = ir.Node(
        "com.microsoft",
        "MatMulNBits",
        [head.inputs[0], *weights],
        attributes=[ir.AttrInt64(name, value) for name, value in attributes.items()],
        outputs=[ir.Value(name="quantized", type=logits.type, shape=logits.shape)],
        name="head",
    )
    for weight in weights:
        model.graph.register_initializer(weight)
    head.append(made)
    model.graph.outputs[0] = made.outputs[0]
    model.graph.remove(head)
    made.outputs[0].name = "logits"
    model.opset_imports["com.microsoft"] = 1
    (edit,) = LastTokenHead().edits(model.graph, Context(model, task="text-generation"))
    assert not isinstance(edit, NearMiss)
    kept = next(node for node in edit.insert if node.op_type == "MatMulNBits")
    assert kept.domain == "com.microsoft"
    assert {name: kept.attributes.get_int(name) for name in attributes} == attributes
    assert kept.inputs[1:] == made.inputs[1:]


def test_other_tasks_are_passed_over() -> None:
    model = canonical_decoder(SHAPE)
    assert list(LastTokenHead().edits(model.graph, Context(model, task="token-classification"))) == []


def test_a_second_run_changes_nothing() -> None:
    again = Lowered(SHAPE, "last-token-head", "last-token-head")
    assert [record.applied for record in again.result.records] == [1, 0]
