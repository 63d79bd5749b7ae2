"""The engine: what it records, where it stops, and that it does not take a pass's word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphopt_passes._adapters import LastTokenLogits

from graphopt.errors import BadInput, CheckFailed, EnvironmentProblem
from graphopt.interface import Adapter, AddedInput, DroppedInput, adapt_feeds
from graphopt.ir import Affine, InMemory, LazyTensor, graph_hash, parse
from graphopt.pipeline import (
    Context,
    Contract,
    Edit,
    Level,
    NearMiss,
    OpsetRange,
    Outcome,
    Pass,
    Proof,
)
from graphopt.plugins import adapter_from_json, registry, run_recipe
from graphopt.recipes import Budget, OptimizeOptions, Recipe, Step

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x) => (float[B,4] y)
{
  a = Relu(x)
  b = Relu(a)
  y = Neg(b)
}
"""


class DropRelu(Pass):
    """Relu goes, unless it feeds Neg."""

    name = "drop-relu"
    level = Level.IMPROVE
    contract = Contract.exact()

    @dataclass(frozen=True)
    class Options:
        keep: str = ""

    def edits(self, graph, context):
        for node in graph:
            if node.op_type != "Relu":
                continue
            if node.outputs[0].name == self.options.keep:
                yield NearMiss(node.name, "asked to keep it")
                continue
            outcome = yield Edit("drop", remove=[node], replace={node.outputs[0]: node.inputs[0]})
            assert outcome is Outcome.APPLIED


class Idle(Pass):
    """Swaps a node for an equal one: nothing changes, whatever it says."""

    name = "idle"
    level = Level.IMPROVE
    contract = Contract.exact()

    def edits(self, graph, context):
        node = graph[0]
        new = ir.Node("", node.op_type, node.inputs, num_outputs=1, name=node.name)
        yield Edit("same again", remove=[node], insert=[new], replace={node.outputs[0]: new.outputs[0]})


class Breaks(Pass):
    """Leaves a node of an operator that does not exist."""

    name = "breaks"
    level = Level.IMPROVE
    contract = Contract.exact()

    def edits(self, graph, context):
        node = graph[0]
        new = ir.Node("", "NoSuchThing", node.inputs, num_outputs=1, name="broken")
        yield Edit("break", remove=[node], insert=[new], replace={node.outputs[0]: new.outputs[0]})


class Lies(Pass):
    """Claims that used nodes are unused."""

    name = "lies"
    level = Level.IMPROVE
    contract = Contract.exact()

    def edits(self, graph, context):
        outcome = yield Edit("not unused", remove=[graph[0]], proof=Proof.UNUSED)
        assert outcome is Outcome.REFUSED


class OnlyOld(DropRelu):
    """For opsets before 20."""

    name = "only-old"
    opsets = OpsetRange(None, 19)


@pytest.fixture(autouse=True)
def packs(monkeypatch):
    found = {p.name: p for p in (DropRelu, Idle, Breaks, Lies, OnlyOld)}
    monkeypatch.setattr(registry, "passes", lambda: found)


def run(model, *steps, **options):
    recipe = Recipe("test", "", Budget(), tuple(s if isinstance(s, Step) else Step(s) for s in steps))
    return run_recipe(model, recipe, Context(model), OptimizeOptions(**options))


def test_record_of_a_pass():
    model = parse(MODEL)
    record = run(model, "drop-relu").records[0]
    assert (record.applied, record.nodes_before, record.nodes_after, record.modified) == (2, 3, 1, True)
    assert record.proved == "structure"
    assert [e.number for e in record.edits] == [1, 2]
    assert len({e.identity for e in record.edits}) == 2


def test_near_misses_are_kept_with_their_reason():
    record = run(parse(MODEL), Step("drop-relu", {"keep": "b"})).records[0]
    assert record.applied == 1
    assert [n.reason for n in record.near_misses] == ["asked to keep it"]


def test_modified_is_measured():
    record = run(parse(MODEL), "idle").records[0]
    assert record.applied == 1
    assert not record.modified


def test_a_broken_graph_stops_the_run_and_names_the_pass():
    with pytest.raises(CheckFailed, match=r"'breaks'.*\n.*NoSuchThing"):
        run(parse(MODEL), "breaks")


def test_a_false_proof_is_refused_and_changes_nothing():
    model = parse(MODEL)
    before = graph_hash(model)
    record = run(model, "lies").records[0]
    assert record.edits[0].outcome == "refused"
    assert graph_hash(model) == before


def test_a_pass_for_other_opsets_is_skipped_with_a_reason():
    record = run(parse(MODEL), "only-old").records[0]
    assert "opset" in record.skipped
    assert not record.edits


def test_stop_after_a_step_and_after_an_edit():
    model = parse(MODEL)
    result = run(model, "idle", "drop-relu", "idle", stop_after="drop-relu:1")
    assert [r.step for r in result.records] == ["idle", "drop-relu"]
    assert [n.op_type for n in model.graph] == ["Relu", "Neg"]


def test_stop_after_an_unknown_step_suggests():
    with pytest.raises(BadInput, match="drop-relu"):
        run(parse(MODEL), "drop-relu", stop_after="drop-rely")


def test_adapters_compose_and_survive_json():
    adapters = [DroppedInput("position_ids"), AddedInput("n", (3,)), LastTokenLogits("keep", "ids", "logits")]
    again = [adapter_from_json(a.to_json()) for a in adapters]
    assert again == adapters
    feeds = adapt_feeds(again, {"ids": np.zeros((2, 5)), "position_ids": np.zeros(1)})
    assert set(feeds) == {"ids", "n", "keep"}
    assert feeds["keep"].tolist() == [5]
    assert feeds["n"].tolist() == [3]


def test_adapters_are_known_by_their_kinds():
    with pytest.raises(TypeError, match="'added-input' already"):

        class Another(Adapter):
            kind = "added-input"

    with pytest.raises(EnvironmentProblem, match="'no-such', which is of the plugin some-plugin") as missing:
        adapter_from_json({"kind": "no-such", "plugin": "some-plugin"})
    assert "Install some-plugin" in str(missing.value)
    with pytest.raises(BadInput, match="'dropped-input': cannot be read"):
        adapter_from_json({"kind": "dropped-input"})


def other_operator(graph):
    graph[0].op_type = "Abs"


def other_attribute(graph):
    graph[0].attributes["alpha"] = ir.AttrFloat32("alpha", 2.0)


def other_input(graph):
    graph[1].replace_input_with(0, graph.inputs[0])


def other_weight(graph):
    graph.initializers["w"].const_value = ir.tensor(np.zeros(4, np.float32))


def other_content(graph):
    graph.initializers["w"].const_value.numpy()[:] = 0


def attribute_in_place(graph):
    graph[0].attributes["alpha"]._value = 2.0


def constant_in_place(graph):
    graph[-2].attributes["value"].as_tensor().raw.float_data[0] = 2


def constants_array_in_place(graph):
    graph[-1].attributes["value"].as_tensor().numpy()[:] = 0


def proto_in_place(graph):
    graph.initializers["p"].const_value.raw.raw_data = np.ones(4, np.float32).tobytes()


def below_a_chain(graph):
    """A weight that is an expression over an array that somebody can write to."""
    BUFFER[:] += 1


def other_output(graph):
    graph.outputs[0] = graph[1].outputs[0]


def another_node(graph):
    graph.append(ir.Node("", "Relu", graph.inputs))


BUFFER = np.zeros(4, np.float32)
WEIGHTED = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] x) => (float[B,4] y)
{
  a = Elu<alpha = 1.0>(x)
  b = Add(a, w)
  c = Relu(b)
  d = Relu(c)
  y = Neg(d)
  e = Constant<value = float[1] {1.0}>()
}
"""


@pytest.mark.parametrize("proposes", [False, True], ids=["alone", "beside-an-edit"])
@pytest.mark.parametrize(
    "change",
    [
        other_operator,
        other_attribute,
        attribute_in_place,
        constant_in_place,
        constants_array_in_place,
        other_input,
        other_weight,
        other_content,
        proto_in_place,
        below_a_chain,
        other_output,
        another_node,
    ],
)
def test_a_change_beside_the_edits_stops_the_run(monkeypatch, change, proposes):
    class Sneaks(Pass):
        """Changes the graph itself, unseen by every check of an edit."""

        name, level, contract = "sneaks", Level.IMPROVE, Contract.exact()

        def edits(self, graph, context):
            if proposes:
                relu = graph[3]
                yield Edit("twice", remove=[relu], replace={relu.outputs[0]: relu.inputs[0]})
            change(graph)

    monkeypatch.setattr(registry, "passes", lambda: {"sneaks": Sneaks})
    model = parse(WEIGHTED.replace("(float[B,4] x)", "(float[B,4] x, float[4] w)"))
    weight = model.graph.inputs.pop()
    weight.const_value = ir.tensor(np.ones(4, np.float32))
    model.graph.register_initializer(weight)
    proto = ir.from_proto(onnx.numpy_helper.from_array(np.zeros(4, np.float32)))
    for name, tensor in (("p", proto), ("chain", LazyTensor(Affine(InMemory(BUFFER), 2.0, 0.0)))):
        value = ir.Value(name=name, shape=ir.Shape([4]), type=weight.type, const_value=tensor)
        model.graph.register_initializer(value)
    held = ir.AttrTensor("value", ir.tensor(np.ones(4, np.float32)))
    model.graph.append(ir.Node("", "Constant", (), [held], name="array"))
    with pytest.raises(CheckFailed, match="pass 'sneaks' changed the graph outside its edits"):
        run(model, "sneaks")


def test_what_an_edit_takes_away_is_what_was_there(monkeypatch):
    """A node that is changed first: the edit is compared with the changed one, and is right."""

    class Covers(Pass):
        """Elu is changed in place, and then replaced by what it is now."""

        name, level, contract = "covers", Level.IMPROVE, Contract.exact()

        def edits(self, graph, context):
            elu = graph[0]
            elu.attributes["alpha"]._value = 2.0
            made = ir.Node("", "Elu", elu.inputs, [ir.AttrFloat32("alpha", 2.0)], name="elu")
            yield Edit("the same", remove=[elu], insert=[made], replace={elu.outputs[0]: made.outputs[0]})

    monkeypatch.setattr(registry, "passes", lambda: {"covers": Covers})
    model = parse(WEIGHTED.replace("Add(a, w)", "Add(a, a)"))
    with pytest.raises(CheckFailed, match=r"node .* \(Elu\) was changed"):
        run(model, "covers")


@pytest.mark.parametrize("change", ["add_inputs", "drop_inputs"])
def test_what_callers_feed_changes_with_an_adapter_alone(monkeypatch, change):
    class Changes(Pass):
        """An input that nothing uses goes, or comes."""

        name, level, contract = "changes", Level.IMPROVE, Contract.exact()

        def edits(self, graph, context):
            new = ir.Value(name="more", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT))
            yield Edit("inputs", **{change: [new] if change == "add_inputs" else [graph.inputs[1]]})

    monkeypatch.setattr(registry, "passes", lambda: {"changes": Changes})
    with pytest.raises(CheckFailed, match=r"the input .(more|z). and brings no adapter"):
        run(parse(MODEL.replace("float[B,4] x", "float[B,4] x, float[B] z")), "changes")


def test_an_array_that_a_pass_writes_to_again_is_found(monkeypatch):
    class Reuses(Pass):
        """One buffer for all weights: each edit is right when it is proposed."""

        name, level, contract = "reuses", Level.IMPROVE, Contract.exact()

        def edits(self, graph, context):
            buffer = np.zeros(4, np.float32)
            for number, node in enumerate([n for n in graph if n.op_type == "Relu"]):
                buffer[:] = number
                tape = ir.tape.Tape()
                zero = tape.initializer(ir.tensor(buffer), f"{node.name}/{number}")
                made = tape.op("Max", [node.inputs[0], zero])
                yield Edit(
                    "maximum",
                    remove=[node],
                    insert=tape.nodes,
                    initializers=tape.initializers,
                    replace={node.outputs[0]: made},
                )

    monkeypatch.setattr(registry, "passes", lambda: {"reuses": Reuses})
    with pytest.raises(CheckFailed, match="outside its edits: weight"):
        run(parse(MODEL), "reuses")
