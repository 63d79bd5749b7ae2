"""A run that was interrupted continues, and what it makes is what an undisturbed run makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from benchmarks.kill import content
from graphopt import Package, optimize
from graphopt.cache import StepCache
from graphopt.cache import _run as run_cache
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Pass
from graphopt.plugins import registry

TEXT = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x) => (float[batch, 4] y)
<float[4] w = {0.5, -1.5, 2.0, 1.0}>
{
  scaled = Mul(x, w)
  again = Mul(x, w)
  both = Add(scaled, again)
  y = Relu(both)
}
"""
RECIPE = "".join(
    f'[[pass]]\nname = "{name}"\n' for name in ("cse", "spill", "chooses", "dead-code", "simplify-shapes")
)


class Interrupted(Exception):
    pass


class Spill(Pass):
    """Weights move to the scratch file."""

    name = "spill"
    level = Level.IMPROVE
    contract = Contract.exact()

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        from graphopt.ir import LazyTensor

        for value in list(graph.initializers.values()):
            assert value.const_value is not None
            assert context.scratch is not None
            array, dtype = value.const_value.numpy(), value.const_value.dtype
            stored = LazyTensor(context.scratch.write([array], dtype, array.shape))
            new = ir.Value(name=None, shape=value.shape, type=value.type, const_value=stored)
            new.name = f"{value.name}/stored"
            yield Edit("spill", replace={value: new}, initializers=[new], drop_initializers=[value])


class Chooses(Pass):
    """Decides something that no other run decides alike."""

    name = "chooses"
    level = Level.IMPROVE
    contract = Contract.exact()
    answers = iter(range(1000))

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        context.note(f"chosen: {context.decide('which', lambda: next(self.answers))}")
        context.assume("chosen", "it was chosen")
        return
        yield


@pytest.fixture(autouse=True)
def more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**registry.passes(), "spill": Spill, "chooses": Chooses}
    monkeypatch.setattr(registry, "passes", lambda: found)


@dataclass
class Work:
    """net.onnx with a recipe, in a folder."""

    folder: Path

    def optimize(self, name: str = "out", **options: Any) -> Package:
        given = {"recipe": str(self.folder / "recipe.toml"), "dims": ["batch=1,3"], "force": True}
        return optimize(self.folder / "net.onnx", self.folder / name, **(given | options))

    def again(self, name: str = "out", **options: Any) -> tuple[Package, int]:
        """The package, and how many of its passes were cached."""
        package = self.optimize(name, **options)
        return package, sum(step.cached for step in package.report().passes)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    onnx.save(parser.parse_model(TEXT), tmp_path / "net.onnx")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return Work(tmp_path)


def assert_same(a: Path, b: Path) -> None:
    """Everything but times, memory, marks of what was cached, and the folder's name."""
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())
    for path in a.iterdir():
        if path.name == "report.html":  # what report.json says, times too
            continue
        x, y = content(path), content(b / path.name)
        if path.name == "report.json":
            x["out"] = y["out"]
        assert x == y, path.name


def interrupt_after_each_step(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Package]
) -> tuple[Package, int]:
    """Every step is stored, and the run that stored it breaks: the package, and how many times that was."""
    keep = StepCache.keep
    broken = 0

    def broken_keep(self: StepCache, index: int, *rest: Any) -> None:
        keep(self, index, *rest)
        raise Interrupted

    monkeypatch.setattr(run_cache, "SECONDS", 0.0)
    monkeypatch.setattr(StepCache, "keep", broken_keep)
    while True:
        try:
            return make(), broken
        except Interrupted:
            broken += 1


def test_a_run_broken_after_each_step_makes_the_same_package(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chooses, "answers", iter([7] + [8] * 100))
    whole = work.optimize("whole", cache=False)
    monkeypatch.setattr(Chooses, "answers", iter([7] + [8] * 100))
    package, broken = interrupt_after_each_step(monkeypatch, work.optimize)

    assert broken == 5
    assert [step.cached for step in package.report().passes] == [True] * 5
    assert_same(whole.path, package.path)
    assert json.loads((package.path / "graphopt.lock").read_text())["decisions"] == {"which": 7}


GROWING = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 1000] x) => (float[batch, 1000] y)
<float[1] w = {2.0}, int64[1] n = {1000}>
{
  a = Expand(w, n)
  root = Sqrt(w)
  b = Expand(root, n)
  p = Mul(x, a)
  y = Mul(p, b)
}
"""


def test_a_budget_of_the_whole_run_is_continued(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two expansions is within it, in whichever step: what the first step spent counts in the next."""
    onnx.save(parser.parse_model(GROWING), work.folder / "net.onnx")
    step = '[[pass]]\nname = "fold-constants"\nmax_growth = 4100\n'
    (work.folder / "recipe.toml").write_text(2 * step)
    whole = work.optimize("whole", cache=False)
    package, broken = interrupt_after_each_step(monkeypatch, work.optimize)

    assert broken == 2
    kept = [node.op_type for node in onnx.load(package.path / "model.onnx").graph.node]
    assert kept.count("Expand") == 1
    assert_same(whole.path, package.path)


@pytest.mark.long
def test_a_language_model_broken_after_each_step_makes_the_same_package(
    tiny_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_model("llama")
    options: dict[str, Any] = {"recipe": "int4-fast", "validate": False}
    whole = optimize(source, tmp_path / "whole", cache=False, **options)
    package, broken = interrupt_after_each_step(
        monkeypatch, lambda: optimize(source, tmp_path / "out", **options)
    )

    assert broken == len(whole.report().passes)
    assert package.report().export_cached
    assert_same(whole.path, package.path)


def test_the_second_run_does_no_pass(work: Work) -> None:
    first, before = work.again("a")
    second, cached = work.again("b")

    assert (before, cached) == (0, 5)
    assert second.report().export_cached
    assert_same(first.path, second.path)


def test_without_the_cache_nothing_is_kept_and_nothing_found(work: Work, own_cache: Path) -> None:
    work.optimize(cache=False)
    assert list(own_cache.iterdir()) == []
    work.optimize()
    assert work.again(cache=False)[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"verify": "structure"},
        {"dims": ["batch=2"]},
        {"on_mismatch": "rollback"},
        {"settings": ["simplify-shapes#1.x=1"]},
    ],
)
def test_what_shapes_the_result_is_part_of_the_key(work: Work, change: dict[str, Any]) -> None:
    @dataclass(frozen=True)
    class Options:
        x: int = 0

    class Optional(registry.passes()["simplify-shapes"]):  # type: ignore[misc]
        Options: Any

    Optional.Options = Options
    registry.passes()["simplify-shapes"] = Optional  # type: ignore[index]
    work.optimize()

    assert work.again()[1] == 5
    assert work.again(**change)[1] < 5


def test_a_changed_source_is_another(work: Work) -> None:
    work.optimize()
    onnx.save(parser.parse_model(TEXT.replace("0.5", "0.25")), work.folder / "net.onnx")

    assert work.again()[1] == 0


def test_changed_external_data_are_another_source(work: Work) -> None:
    model = parser.parse_model(TEXT)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    onnx.save(
        model, work.folder / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0
    )
    first = work.optimize("first")
    data = work.folder / "net.data"
    data.write_bytes(np.full(4, 2, np.float32).tobytes())
    second, cached = work.again()

    assert cached == 0
    for package, value in ((first, 1), (second, 2)):
        (weight,) = onnx.load(package.path / "model.onnx").graph.initializer
        assert (numpy_helper.to_array(weight) == value).all()


def test_stopping_early_continues_too(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_cache, "SECONDS", 0.0)
    work.optimize()

    assert work.again(stop_after="chooses")[1] == 3
    assert work.again(stop_after="spill:0")[1] == 1
    assert [step.step for step in work.optimize(stop_after="spill:0").report().passes] == ["cse", "spill"]


@pytest.mark.parametrize("name", ["entry.json", "state.json", "model.pb", "weights-0.bin"])
@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_damaged_entry_is_not_there(work: Work, own_cache: Path, name: str, damage: str) -> None:
    whole = work.optimize("whole")
    touched = 0
    for path in own_cache.rglob(name):
        held = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(held[: len(held) // 2])
        elif damage == "changed":
            path.write_bytes(b"\0" + held[1:] if name != "weights-0.bin" else held[:-1])
        touched += 1
    package, cached = work.again()

    assert touched
    assert cached == 0
    assert content(package.path / "model.onnx") == content(whole.path / "model.onnx")
    assert work.again()[1] == 5  # it was written anew


def test_a_rolled_back_edit_is_done_again(work: Work, own_cache: Path) -> None:
    class Wrong(Spill):
        name = "spill"

        def edits(self, graph: ir.Graph, context: Context) -> Edits:
            (node,) = (n for n in graph if n.op_type == "Relu")
            new = ir.Node("", "Abs", [node.inputs[0]])
            yield Edit("wrong", remove=[node], insert=[new], replace={node.outputs[0]: new.outputs[0]})

    registry.passes()["spill"] = Wrong  # type: ignore[index]
    options = {"on_mismatch": "rollback"}
    package, _ = work.again(**options)
    assert [e.outcome for step in package.report().passes for e in step.edits].count("rolled back") == 1

    assert work.again(**options)[1] == 0


def test_a_cache_that_cannot_be_written_is_a_warning(
    work: Work, own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_cache / "file").write_text("")
    monkeypatch.setenv("GRAPHOPT_CACHE", str(own_cache / "file" / "below"))
    work.optimize()

    assert capsys.readouterr().err.count("warning: the cache at") == 1


def test_weights_are_copied_where_links_cannot_be(
    work: Work, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("graphopt.cache._states.os.link", refused)
    whole, _ = work.again("whole")
    again, cached = work.again()

    assert cached == 5
    assert_same(whole.path, again.path)
