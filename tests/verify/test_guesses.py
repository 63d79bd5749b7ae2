"""What is guessed of a graph of unknown meaning blames no right edit, and is sized by what a window holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.interface import Interface
from graphopt.ir import infer_types, parse
from graphopt.pipeline import Contract, Edit
from graphopt.verify import Derived, EditVerifier
from graphopt.verify._cut import cut_out
from graphopt.verify._guesses import Guesses, guessed_calls
from graphopt.verify._inputs import Binding, implied, shapes_of
from graphopt.verify._kernels import _is_of_memory
from graphopt.verify._sums import completed, sums_of
from graphopt.verify._values import Points
from graphopt.verify._window import Leaf, Window
from tests.verify._planted import instead, node

EXACT = Contract.exact()
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def made(text: str) -> ir.Model:
    model = parse(HEAD + text)
    infer_types(model)
    return model


def around(model: ir.Model, old: str, new: str) -> Edit:
    """The edit that takes away the maker of one value and uses another in its place."""
    removed = node(model, old)
    return Edit("planted", remove=[removed], replace={removed.outputs[0]: node(model, new).outputs[0]})


def again(model: ir.Model, output: str) -> Edit:
    return instead(model, output, lambda t, n: t.op(n.op_type, list(n.inputs), dict(n.attributes)))


CACHE = """
g (float[batch,past,4] cache, int64[batch,new] ids, float[50,4] table) => (float[batch,total,4] z)
{
  x = Gather(table, ids)
  y = Concat<axis = 1>(cache, x)
  z = Neg(y)
}
"""


def test_a_size_that_a_given_array_has_holds_everywhere() -> None:
    """The cache is of as many rows as the ids that were given; of other lengths it may be."""
    model = made(CACHE)
    arrays = {"ids": np.asarray([[1, 2, 3], [4, 5, 6]])}
    nodes = [node(model, "x"), node(model, "y")]

    def both(wrong: bool) -> Edit:
        tape = ir.tape.Tape()
        x = tape.op("Gather", list(nodes[0].inputs))
        cache = nodes[1].inputs[0]
        new = tape.op("Concat", [cache, tape.op("Abs", [x]) if wrong else x], {"axis": 1})
        return Edit("planted", remove=nodes, insert=tape.nodes, replace={nodes[1].outputs[0]: new})

    with EditVerifier(Interface.of(model), arrays=arrays) as verifier:
        assert verifier.check(model, both(wrong=False), EXACT).status == "proven"
        assert verifier.check(model, both(wrong=True), EXACT).status == "failed"


SHAPED = """
g (float[A,6] x) => (float[P,Q] z) <int64[2] pair = {2, 3}, int64[2] two = {-1, 3}, int64[1] all = {-1}>
{
  nonzero = NonZero(x)
  n = Shape<start = 1>(nonzero)
  f = Cast<to = 1>(n)
  g = Floor(f)
  m = Cast<to = 7>(g)
  u = Sub(m, m)
  v = Add(u, all)
  s = Concat<axis = 0>(v, pair)
  a = Reshape(x, s)
  y = Reshape(a, two)
  z = Neg(y)
}
"""


def test_a_shape_is_computed(verifier: EditVerifier) -> None:
    model = made(SHAPED)
    skipped = instead(model, "y", lambda t, n: t.op("Reshape", [node(model, "a").inputs[0], n.inputs[1]]))
    assert verifier.check(model, skipped, EXACT).status == "proven"


LOOP = """
g (float[4] x, int64 count) => (float[A,B,C] y)
<bool yes = {1}, int64[1] axis = {1}>
{
  last, rows = Loop<body = step (int64 i, bool go, float[4] s) => (bool on, float[4] t, float[4,1] row) {
    on = Identity(go)
    t = Neg(s)
    row = Unsqueeze(t, axis)
  }> (count, yes, x)
  c = Identity(rows)
  a = Transpose<perm = [0, 2, 1]>(c)
  d = Abs(a)
  b = Transpose<perm = [0, 2, 1]>(d)
  y = Neg(b)
}
"""


@pytest.mark.parametrize(("operator", "status"), [("Abs", "proven"), ("Neg", "failed")])
def test_a_transpose_of_a_transpose_behind_a_loop(verifier: EditVerifier, operator: str, status: str) -> None:
    """As free values they differ, and next to the loop a rank is unknown; with it nothing is guessed."""
    model = made(LOOP)
    loop = next(n for n in model.graph if n.op_type == "Loop")
    c = node(model, "c").outputs[0]
    loop.outputs[1].shape = None
    edit = instead(model, "b", lambda t, n: t.op(operator, [c]))
    assert verifier.check(model, edit, EXACT).status == status


def test_a_difference_on_guesses_that_nothing_can_confirm_is_unproven(verifier: EditVerifier) -> None:
    """What is before cannot run: which values it makes nobody knows."""
    model = made(
        "g (float[N] x) => (float[N] z) { s = SequenceConstruct(x) i = Size(x) a = Sub(x, x) z = Relu(a) }"
    )
    a = node(model, "a")
    a.op_type, a.domain = "Unknown", "nobody"
    found = verifier.check(model, around(model, "z", "a"), EXACT)
    assert found.status == "unproven"
    assert found.reason.startswith("differs on made-up inputs")


NORM = """
g (float[N,3,4] x, float[3] scale, float[3] bias, float[3] mean, float[3] var)
  => (float[N,3,4] y, float[3] m, float[3] v)
{
  y, m, v = BatchNormalization<training_mode = 1>(x, scale, bias, mean, var)
}
"""


def test_a_kernel_that_writes_into_its_inputs(verifier: EditVerifier) -> None:
    """onnxruntime's running means take the place of what they are computed from."""
    model = made(NORM)
    old = node(model, "y")
    new = ir.Node("", "BatchNormalization", old.inputs, old.attributes.values(), num_outputs=3)
    edit = Edit(
        "planted", remove=[old], insert=[new], replace=dict(zip(old.outputs, new.outputs, strict=True))
    )
    assert verifier.check(model, edit, EXACT).status == "proven"


def window_of(text: str, output: str) -> Window:
    model = made(text)
    return cut_out(model, again(model, output), Derived(model))


QUANTIZED = """
g (float[N,3,H,W] x) => (float[N,C,P,Q] y)
<int32[2] bias = {3764, 5000}, float s = {0.5}, int32 zero = {0},
 float[2,3,1,1] w = {1, 2, 3, 4, 5, 6}>
{
  b = DequantizeLinear(bias, s, zero)
  y = Conv(x, w, b)
}
"""


def test_only_what_cuts_counts_or_chooses_says_which_lengths_matter() -> None:
    """Biases of integers are as large as they like."""
    assert window_of(QUANTIZED, "y").lengths == ()
    sliced = "g (float[N,M] x) => (float[N,K] y) <int64[1] a = {0}, int64[1] e = {500}, int64[1] axis = {1}> "
    assert ("M", 500) in window_of(sliced + "{ y = Slice(x, a, e, axis) }", "y").lengths
    chosen = "g (float[N,3000] x) => (float[N,2] y) <int64[2] i = {2900, 1}> { y = Gather<axis = 1>(x, i) }"
    assert window_of(chosen, "y").lengths == ()


def test_what_is_too_large_is_unproven(verifier: EditVerifier) -> None:
    """A constant cuts an axis that no memory holds so much of."""
    text = (
        "g (float[N,4096,4096] x) => (float[K,4096,4096] y)"
        " <int64[1] a = {0}, int64[1] e = {3764}> { y = Slice(x, a, e) }"
    )
    model = made(text)
    found = verifier.check(model, again(model, "y"), EXACT)
    assert (found.status, found.reason) == ("unproven", "too large to run at N = 3764")


def test_memory_that_is_not_there_is_no_verdict() -> None:
    told = "Failed to allocate memory for requested buffer of size 77309411328"
    assert _is_of_memory(RuntimeError(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {told}"))
    assert _is_of_memory(MemoryError())
    assert not _is_of_memory(ValueError("shape"))


def test_every_dimension_is_none_once() -> None:
    window = window_of("g (float[N,M] x) => (float[N,M] y) { y = Neg(x) }", "y")
    calls, missing = guessed_calls(window, Points.of(window), Guesses({}, {}, {}), lossy=False)
    sizes = {tuple(call.binding.sizes.values()) for call in calls}
    assert missing == ""
    assert {(0, 5), (7, 0), (1, 1), (7, 7)} <= sizes


def test_calls_say_in_words_what_is_fed() -> None:
    window = window_of("g (float[N,M] x, int64[N] i) => (float[N,M] y) { y = Gather<axis = 0>(x, i) }", "y")
    calls, _ = guessed_calls(window, Points.of(window), Guesses({}, {}, {}), lossy=False)
    names = {call.name for call in calls}
    assert {
        "all dynamic dims = 1, normally distributed inputs",
        "all dynamic dims prime, inputs with NaN and infinities",
        "N = 37, normally distributed inputs, any indices in range",
        "M = 0, normally distributed inputs",
    } <= names
    given, _ = guessed_calls(window, Points.of(window), Guesses({}, {"N": [4], "M": [9]}, {}), lossy=False)
    assert given[0].name == "N = 4, M = 9, normally distributed inputs"


def test_what_is_joined_is_as_long_as_its_parts() -> None:
    """A mask over the cache and what is new: no call has another number of places."""
    sums = {"total": ("past", "new")}
    assert completed({"past": 5, "new": 2}, sums)["total"] == 7
    assert completed({"total": 7, "new": 2}, sums)["past"] == 5
    model = made(
        "g (float[B,P] x, float[B,S] w, float[B,T] m) => (float[B,T] y)"
        " { c = Concat<axis = 1>(x, w) y = Mul(c, m) }"
    )
    node(model, "c").outputs[0].shape = ir.Shape(["B", "T"])
    window = cut_out(model, again(model, "y"), Derived(model), depth=1)
    guesses = Guesses({}, {}, {}, sums_of(model.graph))
    assert guesses.sums == {"T": ("P", "S")}
    sizes = [call.binding.sizes for call in guessed_calls(window, Points.of(window), guesses, lossy=False)[0]]
    assert {s["T"] - s["P"] - s["S"] for s in sizes} == {0}


def test_a_size_is_zero_where_a_multiple_of_it_is() -> None:
    assert implied({"4*s": 0, "t": 2}) == {"4*s": 0, "t": 2, "s": 0}
    assert implied({"s - 3": 0}) == {"s - 3": 0}, "which s = 3 makes it, too"


@pytest.mark.parametrize(("size", "is_known"), [("(((s//5) - 3)//4) + 1", False), ("s//5", True)])
def test_no_call_has_a_size_at_which_a_formula_and_a_graph_may_part(size: str, is_known: bool) -> None:
    leaf = Leaf("x", None, ir.DataType.FLOAT, (size, 4))
    found = shapes_of([leaf], Binding("short", {"s": 1}, {}))
    assert (found == [(0, 4)]) if is_known else (found is None)


@pytest.mark.parametrize(
    ("node", "shape", "terms"),
    [
        ("Conv(x, w)", "6,4,3,3,3", 108),
        ("Conv<group = 2>(x, w)", "6,2,3,3,3", 54),
        ("ConvTranspose<group = 2>(x, w)", "4,3,3,3,3", 54),
    ],
)
def test_a_convolution_adds_up_channels_and_places(node: str, shape: str, terms: int) -> None:
    text = f"g (float[N,4,5,5,5] x, float[{shape}] w) => (float[N,6,P,Q,R] y) {{ y = {node} }}"
    assert window_of(text, "y").longest == terms
