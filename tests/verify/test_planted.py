"""Edits that are wrong only somewhere: at one length, for large numbers, in other layers, in masked rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.families import Case, InputDomain
from graphopt.interface import Interface
from graphopt.ir import infer_types, parse, read_clock
from graphopt.pipeline import Contract, Edit, apply
from graphopt.verify import EditVerifier
from tests.verify._planted import Build, instead, with_stored

EXACT, ALIKE = Contract.exact(), Contract.reassociates()
HEAD = '<ir_version: 10, opset_import: ["" : 23]>\n'


@pytest.fixture(scope="module")
def verifier() -> Iterator[EditVerifier]:
    with EditVerifier() as made:
        yield made


def number(tape: ir.tape.Tape, value: object, dtype: object = np.int64) -> ir.Value:
    return tape.initializer(ir.tensor(np.asarray(value, dtype)), f"number-{len(tape.initializers)}")


def in_32_bits(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
    small = tape.op("Cast", [old.inputs[0]], {"to": 6})
    return tape.op("Cast", [tape.op("Mul", [small, small])], {"to": 7})


def without_maximum(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
    powers = tape.op("Exp", [old.inputs[0]])
    return tape.op("Div", [powers, tape.op("ReduceSum", [powers, number(tape, [-1])])])


def first_row(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
    bounds = [number(tape, [n]) for n in (0, 1, 0)]
    return tape.op("Add", [old.inputs[0], tape.op("Slice", [old.inputs[1], *bounds])])


WHOLE = "int64[1] start = {0}, int64[1] end = {9223372036854775807}"
PLANTED: dict[str, tuple[str, Contract, Build]] = {
    "a-window-of-64-where-all-is-seen": (
        f"g (float[B,S,4] x) => (float[B,S,4] z) <{WHOLE}, int64[1] axis = {{1}}> "
        "{ a = Neg(x) y = Slice(a, start, end, axis) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Slice", [*n.inputs[:2], number(t, [64]), n.inputs[3]]),
    ),
    "ten-of-the-only-dimension": (
        f"g (float[N] x) => (float[N] z) <{WHOLE}> {{ a = Neg(x) y = Slice(a, start, end) z = Neg(y) }}",
        EXACT,
        lambda t, n: t.op("Slice", [*n.inputs[:2], number(t, [10])]),
    ),
    "integers-of-32-bits": (
        "g (int64[N] x) => (int64[N] z) { a = Neg(x) y = Mul(a, a) z = Neg(y) }",
        EXACT,
        in_32_bits,
    ),
    "integers-of-32-bits-out-of-floats": (
        "g (float[N] x) => (int64[N] z) { a = Cast<to = 7>(x) y = Mul(a, a) z = Neg(y) }",
        EXACT,
        in_32_bits,
    ),
    "only-two-rows-of-a-table": (
        "g (float[N,8] x, int64[N] i) => (float[N,8] z) { a = Neg(x) y = Gather(a, i) z = Neg(y) }",
        EXACT,
        lambda t, n: t.op("Gather", [n.inputs[0], t.op("Mod", [n.inputs[1], number(t, 2)])]),
    ),
    "a-product-for-a-choice": (
        "g (float[N,8] x, bool[N,1] m) => (float[N,8] z) <float zero = {0}> "
        "{ a = Neg(x) y = Where(m, a, zero) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("Mul", [n.inputs[1], t.op("Cast", [n.inputs[0]], {"to": 1})]),
    ),
    "softmax-without-its-maximum": (
        "g (float[N,8] x) => (float[N,8] z) { a = Neg(x) y = Softmax(a) z = Neg(y) }",
        ALIKE,
        without_maximum,
    ),
    "an-epsilon-dropped": (
        "g (float[N,4] x) => (float[N,4] z) <float[4] w = {1, 1, 1, 1}> "
        "{ a = Neg(x) y = LayerNormalization<epsilon = 1e-5>(a, w) z = Neg(y) }",
        ALIKE,
        lambda t, n: t.op("LayerNormalization", list(n.inputs), {"epsilon": 0.0}),
    ),
    "the-first-row-for-all": (
        "g (float[B,S] x, float[B,1] b) => (float[B,S] z) { a = Neg(x) y = Add(a, b) z = Neg(y) }",
        EXACT,
        first_row,
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_somewhere_is_found(verifier: EditVerifier, name: str) -> None:
    text, contract, build = PLANTED[name]
    model = parse(HEAD + text)
    infer_types(model)
    right = instead(model, "y", lambda t, n: t.op(n.op_type, list(n.inputs), dict(n.attributes)))
    assert verifier.check(model, right, contract).status == "proven"
    found = verifier.check(model, instead(model, "y", build), contract)
    assert (found.status, bool(found.reason)) == ("failed", True)


@pytest.mark.parametrize(("factor", "status"), [(2.0, "proven"), (2.25, "failed")])
def test_wide_values_in_half_precision(verifier: EditVerifier, factor: float, status: str) -> None:
    model = parse(
        f"{HEAD}g (float16[N,768] x) => (float16[N,768] z) {{ a = Neg(x) y = Add(a, a) z = Neg(y) }}"
    )
    infer_types(model)
    edit = instead(model, "y", lambda t, n: t.op("Mul", [n.inputs[0], number(t, factor, np.float16)]))
    assert verifier.check(model, edit, ALIKE).status == status


LAYERS = """
g (float[N,128] x, float[128] b1, float[128] b2) => (float[N,128] y)
{
  a = Add(x, b1)
  b = Relu(a)
  c = Add(b, b2)
  y = Relu(c)
}
"""


@pytest.fixture
def stored(tmp_path: Path) -> ir.Model:
    """Two layers of which the first has a bias of zeros, in a file."""
    biases = np.stack([np.zeros(128), np.arange(128)]).astype(np.float32)
    return with_stored(HEAD + LAYERS, biases, tmp_path / "biases.bin")


def test_the_first_layer_does_not_decide_for_the_others(stored: ir.Model, verifier: EditVerifier) -> None:
    """Its bias is zero; the pass has not looked."""
    dropped = instead(stored, "a", lambda t, n: t.op("Identity", [n.inputs[0]]))
    started = read_clock()
    assert verifier.check(stored, dropped, ALIKE, reads_since=started).status == "failed"
    kept = instead(stored, "a", lambda t, n: t.op("Sum", list(n.inputs)))
    assert verifier.check(stored, kept, ALIKE, reads_since=started).status == "proven"


def test_two_new_weights_of_one_name(stored: ir.Model, verifier: EditVerifier) -> None:
    """The second edit fails, and is looked at with more of the graph around it: the first edit's work."""

    def doubled(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        two = tape.initializer(ir.tensor(np.full(128, 2, np.float32)), "two")
        return tape.op("Add", [old.inputs[0], tape.op("Div", [tape.op("Mul", [old.inputs[1], two]), two])])

    def wrong(tape: ir.tape.Tape, old: ir.Node) -> ir.Value:
        return tape.op("Add", [old.inputs[0], tape.initializer(ir.tensor(np.ones(128, np.float32)), "two")])

    first = instead(stored, "a", doubled)
    assert verifier.check(stored, first, ALIKE).status == "proven"
    apply(stored.graph, first, "a test").commit()
    assert verifier.check(stored, instead(stored, "c", wrong), ALIKE).status == "failed"


def test_another_opset_for_nodes_that_stay_is_not_proven(stored: ir.Model, verifier: EditVerifier) -> None:
    """What they compute may be another thing there, and nothing is run."""
    found = verifier.check(stored, Edit("opset", opset=13), EXACT)
    assert found.status == "unproven"
    assert "is of another version of Add" in found.reason


class Texts(InputDomain):
    """A mask of ones over as many positions as asked for."""

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        yield from self.longer(rng, 5)

    def longer(self, rng: np.random.Generator, length: int) -> Iterator[Case]:
        mask = np.ones((1, length), np.int64)
        yield Case(f"of {length}", {"x": np.ones((1, length, 4), np.float32), "mask": mask}, {})


def test_a_family_is_asked_for_calls_longer_than_a_constant() -> None:
    model = parse(
        f"{HEAD}g (float[B,S,4] x, int64[B,S] mask) => (float[B,S,4] z)"
        f" <{WHOLE}, int64[1] axis = {{1}}, int64[1] last = {{2}}> "
        "{ f = Cast<to = 1>(mask) m = Unsqueeze(f, last) a = Mul(x, m) y = Slice(a, start, end, axis)"
        " z = Neg(y) }"
    )
    infer_types(model)
    with EditVerifier(Interface.of(model), Texts()) as verifier:
        cut = instead(model, "y", lambda t, n: t.op("Slice", [*n.inputs[:2], number(t, [300]), n.inputs[3]]))
        found = verifier.check(model, cut, EXACT)
    assert found.status == "failed"
    assert "of 301" in found.reason
