"""Planted faults of every kind, found down to the edit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser

from graphopt import BadInput, CheckFailed
from graphopt.bisect import Bisection, bisect
from graphopt.bisect._trial import Trial, Trier
from graphopt.cli._main import run
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Pass
from graphopt.plugins import registry

GRAPH = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x, float[batch, 4] mask) => (float[batch, 4] y)
<float[4] w = {0.5, -1.5, 2.0, 1.0}, float one = {1}>
{
  a = Mul(x, w)
  b = Add(a, one)
  masked = Mul(b, mask)
  p = Softmax<axis = 1>(masked)
  q = Sub(p, a)
  y = Neg(q)
}
"""


class Planted(Pass):
    """Every node is written anew, one of them wrongly."""

    level = Level.IMPROVE
    contract = Contract.exact()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for node in list(graph):
            inputs, attributes = list(node.inputs), {k: a.value for k, a in node.attributes.items()}
            tape = ir.tape.Tape()
            operator = self.written(node, inputs, attributes, tape)
            new = tape.op(operator, inputs, attributes, name=f"{node.name}/anew")
            yield Edit(
                f"{node.op_type} anew",
                remove=[node],
                insert=tape.nodes,
                initializers=tape.initializers,
                replace={node.outputs[0]: new},
            )

    def written(self, node: ir.Node, inputs: list, attributes: dict, tape: ir.tape.Tape) -> str:
        return node.op_type


class Anew(Planted):
    """Nothing is wrong."""

    name = "anew"


class WrongConstant(Planted):
    name = "wrong-constant"

    def written(self, node, inputs, attributes, tape):
        if node.op_type == "Add":
            inputs[1] = tape.initializer(ir.tensor(np.float32(1.5)), "wrong")
        return node.op_type


class BarelyWrong(Planted):
    """Bit-equal, it says; off by one unit in the last place."""

    name = "barely-wrong"

    def written(self, node, inputs, attributes, tape):
        if node.op_type == "Add":
            inputs[1] = tape.initializer(ir.tensor(np.nextafter(np.float32(1), np.float32(2))), "barely")
        return node.op_type


class WrongAxis(Planted):
    name = "wrong-axis"

    def written(self, node, inputs, attributes, tape):
        if node.op_type == "Softmax":
            attributes["axis"] = 0
        return node.op_type


class DroppedMask(Planted):
    name = "dropped-mask"

    def written(self, node, inputs, attributes, tape):
        if inputs[-1].name == "mask":
            del inputs[1]
            return "Identity"
        return node.op_type


class SwappedInputs(Planted):
    name = "swapped-inputs"

    def written(self, node, inputs, attributes, tape):
        if node.op_type == "Sub":
            inputs.reverse()
        return node.op_type


class FirstHalf(Planted):
    """Harmless alone: Neg becomes a product with -1."""

    name = "first-half"

    def written(self, node, inputs, attributes, tape):
        if node.op_type == "Neg":
            inputs.append(tape.initializer(ir.tensor(np.float32(-1)), "minus"))
            return "Mul"
        return node.op_type


class SecondHalf(Planted):
    """Harmless alone: takes every product with a scalar for one with +1."""

    name = "second-half"

    def written(self, node, inputs, attributes, tape):
        if node.op_type == "Mul" and inputs[1].const_value is not None and not inputs[1].shape.dims:
            inputs.pop()
            return "Identity"
        return node.op_type


FAULTS = (Anew, WrongConstant, BarelyWrong, WrongAxis, DroppedMask, SwappedInputs, FirstHalf, SecondHalf)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**registry.passes(), **{p.name: p for p in FAULTS}}
    monkeypatch.setattr(registry, "passes", lambda: known)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model = parser.parse_model(GRAPH)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


@pytest.fixture
def search(source: Path, tmp_path: Path) -> Callable[..., Bisection]:
    def of(*passes: str, **options: object) -> Bisection:
        recipe = tmp_path / "planted.toml"
        steps = "".join(f'[[pass]]\nname = "{name}"\n' for name in ("cse", *passes, "dead-code"))
        recipe.write_text(f'description = "planted"\n{steps}')
        settings: dict = {"out": tmp_path / "work", "recipe": str(recipe), "dims": ["batch=3"], **options}
        return bisect(source, **settings)

    return of


@pytest.mark.parametrize(
    ("fault", "summary"),
    [
        ("wrong-constant", "Add anew"),
        ("wrong-axis", "Softmax anew"),
        ("dropped-mask", "Mul anew"),
        ("swapped-inputs", "Sub anew"),
    ],
)
def test_a_planted_fault_is_found(search: Callable[..., Bisection], fault: str, summary: str) -> None:
    found = search("anew", fault, "anew")
    assert found.culprit is not None
    assert (found.culprit.step, found.culprit.summary) == (fault, summary)
    assert (found.together, found.candidates) == ((), ())
    assert found.reproducer is not None
    done = subprocess.run(
        [sys.executable, "reproduce.py"], cwd=found.reproducer, capture_output=True, text=True, check=True
    )
    before, after = done.stdout.splitlines()
    assert before.removeprefix("before") != after.removeprefix("after")


def test_a_fault_that_takes_two_edits_names_both(search: Callable[..., Bisection]) -> None:
    found = search("first-half", "anew", "second-half")
    assert found.culprit is not None
    assert (found.culprit.step, found.culprit.summary) == ("second-half", "Mul anew")
    assert [(c.step, c.summary) for c in found.together] == [("first-half", "Neg anew")]


def test_a_broken_promise_is_found_in_a_package_that_passes(search: Callable[..., Bisection]) -> None:
    found = search("anew", "barely-wrong", "anew")
    assert found.culprit is not None
    assert (found.promise, found.culprit.step, found.culprit.summary) == (True, "barely-wrong", "Add anew")
    assert found.reproducer is not None


def test_a_good_recipe_has_no_culprit(search: Callable[..., Bisection]) -> None:
    assert search("anew").culprit is None


def test_a_command_judges(search: Callable[..., Bisection], tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(
        "import os, sys, onnx\n"
        "model = onnx.load(os.environ['GRAPHOPT_PACKAGE'] + '/model.onnx')\n"
        "sys.exit(any(n.name == 'Softmax_3/anew' for n in model.graph.node))\n"
    )
    found = search("anew", check=f"{sys.executable} {script}")
    assert found.culprit is not None
    assert (found.culprit.step, found.culprit.summary) == ("anew", "Softmax anew")


@pytest.mark.parametrize(("code", "error"), [(1, CheckFailed), (125, BadInput), (200, BadInput)])
def test_a_check_that_cannot_help_is_said(
    search: Callable[..., Bisection], code: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        search("anew", check=f"exit {code}")


def test_an_interrupted_search_goes_on(
    search: Callable[..., Bisection], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search("anew", "wrong-axis")
    (tried,) = {whole.trials}
    kept = json.loads((Path(whole.reproducer or "").parents[1] / "bisect.json").read_text())
    assert len(kept["verdicts"]) == tried
    again = search("anew", "wrong-axis")
    assert (again.trials, again.culprit) == (0, whole.culprit)
    assert again.known >= tried
    assert search("anew", "wrong-axis", "anew").trials > 0, "another recipe is another search"


def test_a_search_that_is_broken_off_knows_what_it_tried(
    search: Callable[..., Bisection], monkeypatch: pytest.MonkeyPatch
) -> None:
    try_it, count = Trier.__call__, 0

    def three_times(*arguments: object, **options: object) -> Trial:
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return try_it(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trier, "__call__", three_times)
        with pytest.raises(KeyboardInterrupt):
            search("anew", "wrong-axis", "anew")
    found = search("anew", "wrong-axis", "anew")
    assert found.culprit is not None
    assert (found.culprit.step, found.known >= 3) == ("wrong-axis", True)


def test_another_source_at_the_same_place_is_another_search(
    search: Callable[..., Bisection], source: Path
) -> None:
    assert search("anew", "wrong-axis").culprit is not None
    model = onnx.load(source)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "Relu"
    del softmax.attribute[:]
    onnx.save(model, source)
    assert search("anew", "wrong-axis").culprit is None


def test_the_command_prints_what_to_do(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('description = "planted"\n[[pass]]\nname = "wrong-axis"\n')
    code = run(
        ["bisect", str(source), "-o", str(tmp_path / "w"), "--recipe", str(recipe), "--dim", "batch=3"]
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "wrong-axis: edit wrong-axis:" in printed
    assert "(Softmax anew)" in printed
    assert "python reproduce.py in" in printed
