"""The kit finds passes that break each promise, and leaves alone those that keep them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt import BadInput
from graphopt.ir import check_structure, infer_types, is_output
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Outcome, Pass
from graphopt.plugins import registry
from graphopt.testing import Example, check_pass, outputs, session
from graphopt.testing._example import corpus
from graphopt.testing._programs import programs
from graphopt.testing._variants import variant


class OnNeg(Pass):
    """Base of passes that do something to each Neg of a value that is no output."""

    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in tuple(graph):
            if node.op_type == "Neg" and node.domain == "" and not is_output(node.outputs[0]):
                yield from self.on(node, graph)

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        raise NotImplementedError


def replaced(
    node: ir.Node, op_type: str, *inputs: ir.Value | None, weights: tuple[ir.Value, ...] = ()
) -> Edit:
    made = ir.Node("", op_type, inputs or node.inputs, name=f"{node.name}/{op_type}")
    return Edit(
        f"{node.op_type} to {op_type}",
        remove=[node],
        insert=[made],
        initializers=weights,
        replace={node.outputs[0]: made.outputs[0]},
    )


def number(value: float, node: ir.Node) -> ir.Value:
    like = node.inputs[0]
    assert like is not None
    assert like.dtype is not None
    tensor = ir.tensor(np.asarray(value, like.dtype.numpy()))
    return ir.Value(
        name=f"{node.name}/number", shape=ir.Shape([]), type=ir.TensorType(tensor.dtype), const_value=tensor
    )


class Raises(OnNeg):
    name = "raises"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        yield from ()
        raise RuntimeError("cannot")


class Breaks(OnNeg):
    name = "breaks"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        yield replaced(node, "NoSuchOperator")


class Counts(OnNeg):
    """Does something else every time."""

    name = "counts"
    runs = 0

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        Counts.runs += 1
        count = number(self.runs, node)
        yield replaced(node, "Sub", count, node.inputs[0], weights=(count,))


class FindsItsOwn(OnNeg):
    name = "finds-its-own"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        tape = ir.tape.Tape()
        y = tape.op("Neg", [tape.op("Neg", [tape.op("Neg", [node.inputs[0]])])])
        for index, made in enumerate(tape.nodes):
            made.name = f"{node.name}/{index}"
            made.outputs[0].name = f"{node.name}/{index}"
        yield Edit("more", remove=[node], insert=tape.nodes, replace={node.outputs[0]: y})


class SaysSo(FindsItsOwn):
    name = "says-so"
    idempotent: ClassVar[bool] = False


class ChangesItself(OnNeg):
    name = "changes-itself"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        node.op_type = "Abs"
        yield NearMiss("here", "nothing to see")


class RepeatsRefused(OnNeg):
    name = "repeats-refused"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        outcome: Outcome | None = None
        while outcome is not Outcome.APPLIED:
            outcome = yield replaced(node, "Abs")


class DoesNothing(OnNeg):
    name = "does-nothing"
    idempotent: ClassVar[bool] = False

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        yield replaced(node, "Neg")


class DropsAnInput(Pass):
    name = "drops-an-input"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for value in tuple(graph.inputs):
            if not value.uses() and not value.is_initializer():
                yield Edit("unused input", drop_inputs=[value])


class ForgetsTheSignOfZero(OnNeg):
    name = "forgets-the-sign-of-zero"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        zero = number(0.0, node)
        yield replaced(node, "Sub", zero, node.inputs[0], weights=(zero,))


class OffByAThousandth(OnNeg):
    name = "off-by-a-thousandth"
    contract: ClassVar[Contract] = Contract.reassociates()

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        factor = number(-1.001, node)
        yield replaced(node, "Mul", factor, node.inputs[0], weights=(factor,))


class TimesMinusOne(OnNeg):
    """Right, but for the sign of NaN, which nothing promises."""

    name = "times-minus-one"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        factor = number(-1.0, node)
        yield replaced(node, "Mul", factor, node.inputs[0], weights=(factor,))


class OfFloats(OnNeg):
    """Right where numbers are float32, and nowhere else."""

    name = "of-floats"
    contract: ClassVar[Contract] = Contract.reassociates()

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        tensor = ir.tensor(np.float32(-1))
        minus = ir.Value(
            name=f"{node.name}/minus",
            shape=ir.Shape([]),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        yield replaced(node, "Mul", minus, node.inputs[0], weights=(minus,))


class CopiesWeights(Pass):
    """Takes what a weight holds for what it will hold: a caller may give another where it is an input."""

    name = "copies-weights"
    level: ClassVar[Level] = Level.IMPROVE
    contract: ClassVar[Contract] = Contract.exact()
    idempotent: ClassVar[bool] = False

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in tuple(graph):
            weight = node.inputs[1] if node.op_type == "Add" and node.domain == "" else None
            if weight is None or weight.const_value is None or is_output(node.outputs[0]):
                continue
            if len(weight.shape or ()) >= len(node.inputs[0].shape or ()):  # type: ignore[union-attr]
                continue
            array = weight.const_value.numpy()[None].copy()
            copy = ir.Value(
                name=f"{node.name}/copy",
                shape=ir.Shape(array.shape),
                type=weight.type,
                const_value=ir.tensor(array),
            )
            yield replaced(node, "Add", node.inputs[0], copy, weights=(copy,))


class ClipsAtAThousand(OnNeg):
    """Right for usual numbers."""

    name = "clips-at-a-thousand"
    idempotent: ClassVar[bool] = False
    contract: ClassVar[Contract] = Contract.reassociates()
    top = 1e3

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        tape = ir.tape.Tape()
        top = number(self.top, node)
        y = tape.op("Min", [tape.op("Neg", [node.inputs[0]]), top])
        for index, made in enumerate(tape.nodes):
            made.name = made.outputs[0].name = f"{node.name}/{index}"
        yield Edit(
            "clipped", remove=[node], insert=tape.nodes, initializers=[top], replace={node.outputs[0]: y}
        )


class ClipsAtAMillion(ClipsAtAThousand):
    """Right for large numbers too, and on every call of every example."""

    name = "clips-at-a-million"
    top = 1e6


class KeepsAHundredRows(OnNeg):
    """Right up to a length that no example has."""

    name = "keeps-a-hundred-rows"
    idempotent: ClassVar[bool] = False

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        x = node.inputs[0]
        if x is None or not x.shape or isinstance(x.shape[0], int):
            return
        tape = ir.tape.Tape()
        zero, end = integers("zero", 0, node), integers("end", 100, node)
        y = tape.op("Slice", [tape.op("Neg", [x]), zero, end, zero])
        for index, made in enumerate(tape.nodes):
            made.name = made.outputs[0].name = f"{node.name}/{index}"
        yield Edit(
            "cut off",
            remove=[node],
            insert=tape.nodes,
            initializers=[zero, end],
            replace={node.outputs[0]: y},
        )


def integers(name: str, value: int, node: ir.Node) -> ir.Value:
    tensor = ir.tensor(np.asarray([value], np.int64))
    kind = ir.TensorType(tensor.dtype)
    return ir.Value(name=f"{node.name}/{name}", shape=ir.Shape([1]), type=kind, const_value=tensor)


class NeverApplies(OnNeg):
    name = "never-applies"

    def on(self, node: ir.Node, graph: ir.Graph) -> Edits:
        yield NearMiss(node.name or "", "never")


FAULTS = {
    Raises: "completes",
    Breaks: "completes",
    Counts: "deterministic",
    FindsItsOwn: "idempotent",
    ChangesItself: "proposes",
    RepeatsRefused: "proposes",
    DoesNothing: "honest",
    DropsAnInput: "interface",
    ForgetsTheSignOfZero: "contract",
    OffByAThousandth: "contract",
    OfFloats: "completes",
    CopiesWeights: "contract",
    ClipsAtAThousand: "contract",
    ClipsAtAMillion: "contract",
    KeepsAHundredRows: "contract",
    NeverApplies: "applies",
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**registry.passes(), **{cls.name: cls for cls in (*FAULTS, SaysSo, TimesMinusOne)}}
    monkeypatch.setattr(registry, "passes", lambda: known)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.name)
def test_a_broken_promise_is_found(cls: type[Pass]) -> None:
    found = check_pass(cls, generated=10)

    assert not found
    assert {problem.promise for problem in found.problems} == {FAULTS[cls]}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("cls", [SaysSo, TimesMinusOne], ids=lambda cls: cls.name)
def test_a_pass_that_keeps_them_conforms(cls: type[Pass]) -> None:
    found = check_pass(cls, generated=10)

    assert found.problems == []
    assert 0 < found.changed < found.graphs


@pytest.mark.usefixtures("installed")
def test_an_edit_that_cannot_be_undone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.pipeline._apply.Applied.undo", lambda self: None)

    found = check_pass(TimesMinusOne, generated=1)

    assert {problem.promise for problem in found.problems} == {"undoes"}


@pytest.mark.usefixtures("installed")
def test_what_hypothesis_finds_it_makes_small() -> None:
    found = check_pass(ForgetsTheSignOfZero, generated=50)

    generated = [problem for problem in found.problems if problem.graph.startswith("generated")]
    assert len(found.problems) >= 2
    assert all(problem.text.count("Neg") == 1 for problem in generated)


def test_a_pass_that_is_not_installed_is_bad_input() -> None:
    with pytest.raises(BadInput, match="not the installed one"):
        check_pass(TimesMinusOne)


OF_PLACES = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x, int64[N] places) => (float[N] y) <float[3] table = {1.0, 2.0, 3.0}> {
  a = Gather(table, places) y = Add(a, x)
}"""


def test_legal_inputs_that_an_example_states_are_a_case_and_what_edits_are_run_on() -> None:
    example = Example(Path("x/y.txt"), {"inputs": '{"places": [2, -1]}'}, OF_PLACES)
    (case,) = example.cases()

    assert case.feeds["places"].tolist() == [2, -1]
    assert case.feeds["places"].dtype == np.int64
    assert case.feeds["x"].shape == (2,)
    assert example.given(example.model()).keys() == {"places"}


@pytest.mark.parametrize("line", ['{"z": [1]}', '{"places": [[1]]}', '{"places": ["a"]}', "[1]", "{"])
def test_stated_inputs_that_are_none_are_bad_input(line: str) -> None:
    example = Example(Path("x/y.txt"), {"inputs": line}, OF_PLACES)

    with pytest.raises(BadInput, match=r"y\.txt: `inputs`"):
        list(example.cases())


def variants() -> st.SearchStrategy[Example]:
    return st.builds(
        variant, st.sampled_from(corpus()), st.none() | st.integers(0, 20), st.booleans(), st.booleans()
    )


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs() | variants())
def test_generated_graphs_are_well_formed_and_run(example: Example) -> None:
    model = example.model()
    infer_types(model)

    assert check_structure(model) == []
    made = session(model)
    for case in example.cases():
        assert outputs(made, case.feeds).keys() == {value.name for value in model.graph.outputs}


def features(model: ir.Model) -> Iterator[str]:
    for node in model.graph.all_nodes():
        yield from ("subgraph" for _ in [0] if node.op_type in ("If", "Loop"))
        yield from ("empty input" for value in node.inputs[:-1] if value is None)
    for value in model.graph.inputs:
        for dim in value.shape or ():
            yield "zero" if dim == 0 else "unknown" if getattr(dim, "value", dim) is None else "known"
    for value in model.graph.initializers.values():
        yield from ("shared weight" for _ in [0] if len(value.uses()) > 1)


def test_generated_graphs_have_what_passes_forget() -> None:
    seen: set[str] = set()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(programs())
    def look(example: Example) -> None:
        seen.update(features(example.model()))

    look()
    assert {"subgraph", "empty input", "zero", "unknown", "shared weight"} <= seen


def test_arrays_are_not_the_same_in_every_case() -> None:
    example = next(e for e in corpus() if e.path.stem == "signs-and-nothing")
    shapes: list[Any] = [case.feeds["x"].shape for case in example.cases()]

    assert shapes == [(2, 4), (0, 1)]
