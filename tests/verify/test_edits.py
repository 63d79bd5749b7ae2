"""Each edit is run before it is applied: right ones are proven, wrong ones of every kind are found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.families import Case, InputDomain
from graphopt.interface import Interface
from graphopt.ir import InMemory, LazyTensor, infer_types, parse, read_clock
from graphopt.pipeline import Contract, Edit, Proof
from graphopt.pipeline._proofs import proof_holds
from graphopt.verify import Derived, EditVerifier
from graphopt.verify._cut import cut_out
from graphopt.verify._inputs import Binding, most_steps
from tests.verify._planted import Build, instead, node, with_stored

EXACT, ALIKE = Contract.exact(), Contract.reassociates()

MODEL = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,4] x, int64[B,S] mask) => (float[B,S,4] y)
<float[4] w = {1, 2, 3, 4}, float two = {2}>
{
  seen = Cast<to = 1>(mask)
  axis = Constant<value = int64[1] {2}>()
  wide = Unsqueeze(seen, axis)
  a = Mul(x, wide)
  b = Mul(a, w)
  c = Add(b, b)
  d = Softmax<axis = 2>(c)
  y = Sub(d, a)
}
"""


@pytest.fixture
def model() -> ir.Model:
    made = parse(MODEL)
    infer_types(made)
    return made


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def doubled(factor: float) -> Build:
    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        scale = tape.initializer(ir.tensor(np.float32(factor)), "factor")
        return tape.op("Mul", [old.inputs[0], scale])

    return build


def test_a_right_edit_is_proven(model: ir.Model, verifier: EditVerifier) -> None:
    found = verifier.check(model, instead(model, "c", doubled(2.0)), EXACT)
    assert (found.status, found.how) == ("proven", "numeric")


@pytest.mark.parametrize(
    ("output", "build"),
    [
        pytest.param("c", doubled(2.001), id="wrong-constant"),
        pytest.param("d", lambda t, n: t.op("Softmax", [n.inputs[0]], {"axis": 1}), id="wrong-axis"),
        pytest.param("y", lambda t, n: t.op("Sub", [n.inputs[1], n.inputs[0]]), id="swapped-inputs"),
        pytest.param("a", lambda t, n: t.op("Identity", [n.inputs[0]]), id="dropped-mask"),
        pytest.param("b", lambda t, n: t.op("Relu", [t.op("Mul", list(n.inputs))]), id="half-right"),
        pytest.param("c", lambda t, n: t.op("Cast", [n.inputs[0]], {"to": 11}), id="wrong-dtype"),
        pytest.param("c", lambda t, n: t.op("Transpose", [n.inputs[0]]), id="wrong-shape"),
        pytest.param("c", lambda t, n: t.op("NoSuchOperator", [n.inputs[0]]), id="no-such-operator"),
    ],
)
@pytest.mark.parametrize("contract", [EXACT, ALIKE], ids=str)
def test_a_wrong_edit_is_found(
    model: ir.Model,
    verifier: EditVerifier,
    output: str,
    build: Callable[[ir.tape.Tape, ir.Node], ir.Value],
    contract: Contract,
) -> None:
    found = verifier.check(model, instead(model, output, build), contract)
    assert found.status == "failed"
    assert found.reason


def test_another_order_is_for_those_who_say_so(model: ir.Model, verifier: EditVerifier) -> None:
    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        ones = tape.initializer(ir.tensor(np.float32(1 / 3)), "third")
        three = tape.initializer(ir.tensor(np.float32(3)), "three")
        return tape.op("Mul", [tape.op("Mul", [tape.op("Add", list(old.inputs)), ones]), three])

    assert verifier.check(model, instead(model, "c", build), EXACT).status == "failed"
    assert verifier.check(model, instead(model, "c", build), ALIKE).status == "proven"


def test_values_that_depend_on_each_other_are_followed_up(model: ir.Model, verifier: EditVerifier) -> None:
    """c is b + b: as free values they differ, and only with the node before does c / 2 equal b."""
    old = node(model, "y")
    tape = ir.tape.Tape()
    half = tape.initializer(ir.tensor(np.float32(0.5)), "half")
    again = tape.op("Mul", [node(model, "c").outputs[0], half])
    product = node(model, "b")
    edit = Edit(
        "b from c",
        remove=[],
        insert=tape.nodes,
        initializers=tape.initializers,
        replace={product.outputs[0]: again},
        before=old,
    )
    assert verifier.check(model, edit, EXACT).status == "proven"


def test_a_structural_proof_runs_nothing(model: ir.Model) -> None:
    edit = instead(model, "c", doubled(3.0), proof=Proof.DUPLICATE)
    found = EditVerifier().check(model, edit, EXACT)
    assert (found.status, found.how) == ("proven", "structure")


@pytest.mark.parametrize(("opset", "status"), [(22, "proven"), (20, "unproven")])
def test_another_opset_alone(opset: int, status: str) -> None:
    """Add is the same from opset 14 on; DequantizeLinear has other versions at 19 and 21."""
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (int8[N] x) => (float[N] y) <float s = {0.5}> { a = DequantizeLinear(x, s)  y = Add(a, a) }"""
    with EditVerifier() as verifier:
        found = verifier.check(parse(text), Edit("another opset", opset=opset), EXACT)

    assert found.status == status
    assert ("another version of DequantizeLinear" in found.reason) is (status == "unproven")


def test_an_unknown_size_is_said(model: ir.Model, verifier: EditVerifier) -> None:
    node(model, "b").outputs[0].shape = None
    found = verifier.check(model, instead(model, "c", doubled(2.0)), EXACT)
    assert (found.status, found.reason) == ("unproven", "the rank of one of its values is unknown")


SPLIT = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,6] x) => (float[B,3] y)
<int64[3] apart = {0, 3, 1}, int64[2] flat = {0, 3}, int64 three = {3}, int64 first = {0}>
{
  parts = SplitToSequence<axis = 1>(x, three)
  part = SequenceAt(parts, first)
  a = Reshape(part, apart)
  y = Reshape(a, flat)
}
"""


def test_a_window_is_widened_past_what_takes_a_sequence(verifier: EditVerifier) -> None:
    model = parse(SPLIT)
    infer_types(model)
    node(model, "part").outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    node(model, "part").outputs[0].shape = ir.Shape(["B", 3])

    def merged(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        return tape.op("Reshape", [node(model, "part").outputs[0], old.inputs[1]])

    assert verifier.check(model, instead(model, "y", merged), EXACT).status == "proven"


LAYERS = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[N,40] x, float[40,40] w1, float[40,40] w2, float[40,40] w3) => (float[N,40] y)
{
  a = MatMul(x, w1)
  b = Relu(a)
  c = MatMul(b, w2)
  d = Relu(c)
  e = MatMul(d, w3)
  y = Relu(e)
}
"""


@pytest.fixture
def stored(tmp_path: Path) -> ir.Model:
    weights = np.random.default_rng(0).standard_normal((3, 40, 40)).astype(np.float32)
    return with_stored(LAYERS, weights, tmp_path / "weights.bin")


def with_weight(array: np.ndarray) -> Build:
    def build(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        return tape.op("MatMul", [old.inputs[0], tape.initializer(LazyTensor(InMemory(array)), "new")])

    return build


def again(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
    return tape.op("Gemm", list(old.inputs))


def test_equal_pieces_are_run_once(stored: ir.Model, verifier: EditVerifier) -> None:
    first = verifier.check(stored, instead(stored, "c", again), ALIKE)
    second = verifier.check(stored, instead(stored, "e", again), ALIKE)
    assert [(v.status, v.how) for v in (first, second)] == [("proven", "numeric"), ("proven", "deduplicated")]


def test_what_depends_on_weights_is_run_for_each(stored: ir.Model, verifier: EditVerifier) -> None:
    """The second edit takes the first layer's weight: alike in form, and wrong."""
    started = read_clock()
    tensor = stored.graph.initializers["w1"].const_value
    assert tensor is not None
    edits = [instead(stored, output, with_weight(tensor.numpy())) for output in ("a", "c")]
    found = [verifier.check(stored, edit, EXACT, reads_since=started).status for edit in edits]
    assert found == ["proven", "failed"]


def test_declared_damage_has_its_budget(stored: ir.Model, verifier: EditVerifier) -> None:
    tensor = stored.graph.initializers["w1"].const_value
    assert tensor is not None
    rounded = np.round(tensor.numpy() * 16) / 16
    edit = instead(stored, "a", with_weight(rounded))
    assert verifier.check(stored, edit, Contract.lossy("sqnr", 30.0)).status == "within budget"
    strict = verifier.check(stored, edit, Contract.lossy("sqnr", 60.0))
    assert strict.status == "failed"
    assert "sqnr" in strict.reason


class Halves(InputDomain):
    """Rows of which the second half is padding, where results are not specified."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        mask = np.asarray([[1, 1, 0, 0], [1, 1, 1, 1]], np.int64)
        feeds = {"x": rng.standard_normal((2, 4, 4)).astype(np.float32), "mask": mask}
        yield Case("halves", feeds, {"y": mask[:, :, None] != 0})


def test_padding_may_differ_and_nothing_else(model: ir.Model) -> None:
    with EditVerifier(Interface.of(model), Halves()) as verifier:
        unmasked = instead(model, "a", lambda t, n: t.op("Identity", [n.inputs[0]]))
        assert verifier.check(model, unmasked, EXACT).status == "proven"
        everywhere = instead(model, "a", lambda t, n: t.op("Neg", [n.inputs[0]]))
        assert verifier.check(model, everywhere, EXACT).status == "failed"


def test_a_difference_can_be_seen_again(model: ir.Model, verifier: EditVerifier, tmp_path: Path) -> None:
    verifier.check(model, instead(model, "c", doubled(3.0)), EXACT, save=tmp_path / "seen")
    assert sorted(p.name for p in (tmp_path / "seen").iterdir()) == [
        "after.onnx",
        "before.onnx",
        "inputs.npz",
        "reproduce.py",
    ]
    done = subprocess.run(
        [sys.executable, "reproduce.py"], cwd=tmp_path / "seen", capture_output=True, text=True, check=True
    )
    before, after = (line.split(maxsplit=1) for line in done.stdout.splitlines() if line[0] in "ab")
    assert (before[0], after[0]) == ("before", "after")
    assert before[1] != after[1]


LOOP = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,4] state, float[S,B,4] x) => (float[B,4] total, float[S,B,4] sums)
{
  total, sums = Scan <num_scan_inputs = 1,
                      body = step (float[B,4] s, float[B,4] t) => (float[B,4] a, float[B,4] b) {
    a = Add(s, t)
    b = Identity(a)
  }> (state, x)
}
"""


def test_a_loop_adds_up_a_term_in_each_step() -> None:
    made = parse(LOOP)
    infer_types(made)
    edit = instead(made, "total", lambda tape, scan: tape.op("Identity", [scan.inputs[0]]))

    window = cut_out(made, edit, Derived(made))

    assert window.loops == ("S",)
    assert most_steps(window.loops, Binding("", {"B": 2, "S": 65}, {}, {})) == 65
    assert most_steps((), Binding("", {"B": 2, "S": 65}, {}, {})) == 1
    assert most_steps((None, "unknown"), Binding("", {"B": 2, "S": 65}, {}, {})) == 1


def test_random_numbers_decide_nothing(verifier: EditVerifier) -> None:
    drawn = parse("""<ir_version: 10, opset_import: ["" : 23]>
        g (float[4] x) => (float[4] y, float[4] z) { r = Bernoulli(x)  y = Add(x, r)  z = Neg(y) }""")
    infer_types(drawn)
    removed = verifier.check(drawn, instead(drawn, "r", lambda t, n: t.op("Relu", [n.inputs[0]])), EXACT)
    assert (removed.status, "random" in removed.reason) == ("unproven", True)
    behind = verifier.check(drawn, instead(drawn, "z", lambda t, n: t.op("Relu", [n.inputs[0]])), EXACT)
    assert behind.status == "failed"
    beside = instead(
        drawn, "z", lambda t, n: t.op("Sub", [t.op("Sub", [n.inputs[0], n.inputs[0]]), n.inputs[0]])
    )
    assert verifier.check(drawn, beside, ALIKE).status == "proven"


def test_two_calls_of_a_function_that_draws_are_no_duplicates() -> None:
    drawn = parse("""<ir_version: 10, opset_import: ["" : 23, "local" : 1]>
        g (float[4] x) => (float[4] y) { a = local.noisy(x)  b = local.noisy(x)  y = Sub(a, b) }
        <domain: "local", opset_import: ["" : 23]> noisy (a) => (b) { b = Bernoulli(a) }""")
    first, second, _ = drawn.graph
    edit = Edit("", remove=[second], replace={second.outputs[0]: first.outputs[0]}, proof=Proof.DUPLICATE)
    assert not proof_holds(edit, drawn)
    drawn.functions.clear()  # of what is not known, nothing says that it draws
    assert proof_holds(edit, drawn)
