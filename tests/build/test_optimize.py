"""The main job on small ONNX files: what it writes, what it compares, and what is left when it fails."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
import pytest
from onnx import parser

from graphopt import BadInput, CheckFailed, EnvironmentProblem, Package, Rejected, export_package, optimize
from graphopt.io import digest_of
from graphopt.package import LOCK, MANIFEST
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, Pass
from graphopt.plugins import registry
from graphopt.report import PAGE, REPORT

FLOATS = """
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
TOKENS = """
<ir_version: 10, opset_import: ["" : 23]>
net (int64[batch, length] ids) => (float[batch, length, 2] y)
<float[3, 2] table = {0.5, -1.5, 2.0, 1.0, 3.0, -1.0}>
{
  y = Gather(table, ids)
}
"""
RECIPE = """
description = "for tests"
[[pass]]
name = "cse"
[[pass]]
name = "dead-code"
"""


class Damage(Pass):
    """Every weight is scaled by what the option says."""

    name = "damage"
    level = Level.IMPROVE
    contract = Contract.exact()

    @dataclass(frozen=True)
    class Options:
        factor: float = 1.5

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for value in list(graph.initializers.values()):
            assert value.const_value is not None
            array = value.const_value.numpy() * np.float32(self.options.factor)
            new = ir.Value(
                name=f"{value.name}/damaged", shape=value.shape, type=value.type, const_value=ir.tensor(array)
            )
            yield Edit("scale", replace={value: new}, initializers=[new], drop_initializers=[value])


class Breaks(Pass):
    """Raises what the test put into `error`."""

    name = "breaks"
    level = Level.IMPROVE
    contract = Contract.exact()
    error: BaseException = RuntimeError("not set")

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        raise self.error
        yield


@pytest.fixture(autouse=True)
def more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**registry.passes(), "damage": Damage, "breaks": Breaks}
    monkeypatch.setattr(registry, "passes", lambda: found)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "net.onnx"
        onnx.save(parser.parse_model(text), path)
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return str(path)


def with_pass(recipe: str, name: str, budget: str = "") -> str:
    path = Path(recipe).with_name(f"{name}.toml")
    path.write_text(f'{budget}\n[[pass]]\nname = "{name}"\n')
    return str(path)


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_package_holds_the_graph_and_its_papers(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    package = optimize(write(FLOATS), tmp_path / "out", recipe=recipe, dims=["batch=1,3"])

    assert listing(package.path) == [MANIFEST, LOCK, "model.onnx", PAGE, REPORT]
    assert package.manifest.closing_check == "passed"
    assert {PAGE, REPORT}.isdisjoint(json.loads((package.path / LOCK).read_text())["outputs"])
    assert [p.name for p in package.manifest.graphs["model"].inputs] == ["x"]
    assert package.manifest.graphs["model"].inputs[0].dims == ("batch", 4)
    x = np.ones((2, 4), np.float32)
    assert package.session().run(None, {"x": x})[0].tolist() == [[1.0, 0.0, 4.0, 2.0]] * 2


def test_the_report_tells_what_each_pass_did(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    report = optimize(write(FLOATS), tmp_path / "out", recipe=recipe, dims=["batch=1,3"]).report()
    cse, dead_code = report.passes

    assert (cse.step, cse.applied, cse.nodes_before, cse.nodes_after) == ("cse", 1, 4, 3)
    assert cse.proofs == {"duplicate": 1}
    assert not dead_code.modified
    assert report.closing.verdict == "passed"
    assert {c.case for c in report.closing.metrics} == {"batch=1", "batch=3"}
    assert report.sizes.source_weight_bytes == 16


def test_the_lock_resolves_everything_that_shaped_the_package(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    source = write(FLOATS)
    package = optimize(
        source, tmp_path / "out", recipe=with_pass(recipe, "damage"), settings=["damage.factor=1"]
    )
    lock = json.loads((package.path / LOCK).read_text())

    assert lock["steps"][0] == {"name": "damage", "options": {"factor": 1.0}}
    assert lock["inputs"] == {"net.onnx": digest_of(source)}
    assert lock["outputs"]["model.onnx"] == digest_of(package.path / "model.onnx")
    assert {"graphopt", "graphopt.passes", "graphopt.targets", "graphopt.models"} == {
        p["group"] for p in lock["packs"]
    }
    assert all(p["digest"].startswith("sha256:") for p in lock["packs"])
    assert {"python", "onnx", "onnxruntime"} < set(lock["versions"])
    assert lock["seeds"] == {"closing check": 0}


def test_two_runs_write_the_same_package(write: Callable[[str], Path], recipe: str, tmp_path: Path) -> None:
    source = write(FLOATS)
    for name in ("a", "b"):
        optimize(source, tmp_path / name, recipe=recipe, dims=["batch=2"])

    for file in (MANIFEST, LOCK, "model.onnx"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("text", "dims", "reason"),
    [
        (FLOATS, [], "dimension batch are unknown"),
        (TOKENS, ["batch=1", "length=5"], "legal values of the int64 input ids are unknown"),
        (FLOATS, ["batch=0"], "all of it is empty"),
    ],
)
def test_without_legal_inputs_the_verdict_is_inconclusive_and_the_package_is_written(
    write: Callable[[str], Path], recipe: str, tmp_path: Path, text: str, dims: list[str], reason: str
) -> None:
    package = optimize(write(text), tmp_path / "out", recipe=recipe, dims=dims)

    assert package.manifest.closing_check == "inconclusive"
    assert reason in package.report().closing.reason


def test_inputs_from_a_file_decide(write: Callable[[str], Path], recipe: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "legal.npz", ids=np.array([[0, 2, 1]]))
    package = optimize(write(TOKENS), tmp_path / "out", recipe=recipe, inputs=tmp_path / "legal.npz")

    assert package.manifest.closing_check == "passed"
    assert [c.case for c in package.report().closing.metrics] == ["legal.npz"]
    lock = json.loads((package.path / LOCK).read_text())
    assert lock["inputs"]["--inputs legal.npz"] == digest_of(tmp_path / "legal.npz")


def test_inputs_that_the_source_itself_refuses_are_bad_input(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "illegal.npz", x=np.zeros((1, 5), np.float32))

    with pytest.raises(BadInput, match=r"net\.onnx cannot run on x float32\[1, 5\]"):
        optimize(write(FLOATS), tmp_path / "out", recipe=recipe, inputs=tmp_path / "illegal.npz")


@pytest.mark.parametrize(
    ("nodes", "case"),
    [
        ('y = Resize<mode = "nearest">(x, , v)', "ones"),
        ("rate = ReduceMin<keepdims = 0>(v) y = Dropout(x, rate)", "random inputs between 0 and 1"),
    ],
)
def test_made_up_inputs_that_the_source_refuses_are_not_legal(
    write: Callable[[str], Path], recipe: str, tmp_path: Path, nodes: str, case: str
) -> None:
    source = write(f"""
        <ir_version: 10, opset_import: ["" : 23]>
        net (float[1, 1, 8, 8] x, float[4] v) => (float[a, b, c, d] y) {{ {nodes} }}
    """)
    package = optimize(source, tmp_path / "out", recipe=recipe, cache=False)

    assert {c.case for c in package.report().closing.metrics} == {case}


def test_a_folder_knows_its_inputs_itself(tiny_coder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leave out --inputs and --dim"):
        optimize(tiny_coder, tmp_path / "out", dims=["batch=1"])


def test_the_closing_check_can_be_left_out(write: Callable[[str], Path], recipe: str, tmp_path: Path) -> None:
    package = optimize(write(FLOATS), tmp_path / "out", recipe=recipe, dims=["batch=1"], validate=False)

    assert package.manifest.closing_check == "not run"


def test_damage_is_rejected_and_nothing_is_installed(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    source = write(FLOATS)
    optimize(source, tmp_path / "out", recipe=recipe, dims=["batch=1"])
    before = (tmp_path / "out" / MANIFEST).read_bytes()
    files = listing(tmp_path)

    with pytest.raises(
        Rejected, match=r"y in batch=1: largest difference is 1\.27, at most 0\.001 std is"
    ) as raised:
        optimize(
            source,
            tmp_path / "out",
            recipe=with_pass(recipe, "damage"),
            dims=["batch=1"],
            verify="structure",
            force=True,
        )

    assert isinstance(raised.value, CheckFailed)
    assert raised.value.report.closing.verdict == "failed"
    assert (tmp_path / "out" / MANIFEST).read_bytes() == before
    assert listing(tmp_path) == sorted([*files, "damage.toml"])


def test_declared_damage_within_its_budget_passes(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    declared = with_pass(recipe, "damage", "[budget]\ncosine_min = 0.99\n")
    package = optimize(write(FLOATS), tmp_path / "out", recipe=declared, dims=["batch=1"], verify="structure")

    assert package.manifest.closing_check == "passed"
    assert not package.manifest.lossless


@pytest.mark.parametrize("error", [RuntimeError("planted"), KeyboardInterrupt(), SystemExit(143)])
def test_a_run_that_breaks_leaves_the_old_package_and_no_debris(
    write: Callable[[str], Path],
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    source = write(FLOATS)
    optimize(source, tmp_path / "out", recipe=recipe, dims=["batch=1"])
    breaking = with_pass(recipe, "breaks")
    before = listing(tmp_path), (tmp_path / "out" / MANIFEST).read_bytes()
    monkeypatch.setattr(Breaks, "error", error)

    with pytest.raises(type(error)):
        optimize(source, tmp_path / "out", recipe=breaking, force=True)

    assert (listing(tmp_path), (tmp_path / "out" / MANIFEST).read_bytes()) == before


def test_a_full_disk_is_told_and_leaves_nothing(
    write: Callable[[str], Path], recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = write(FLOATS)
    before = listing(tmp_path)
    monkeypatch.setattr(registry.targets()["cpu"], "compile", full)
    with pytest.raises(EnvironmentProblem, match="no space left"):
        optimize(source, tmp_path / "out", recipe=recipe)

    assert listing(tmp_path) == before


def test_the_default_folder_is_named_after_source_and_recipe(
    write: Callable[[str], Path], recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert optimize(write(FLOATS), recipe=recipe).path == Path("net-recipe")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"recipe": "losless"}, "unknown recipe 'losless'", "'lossless'"),
        ({"target": "cpuu"}, "unknown target 'cpuu'", "'cpu'"),
        ({"settings": ["csee.x=1"]}, "unknown pass 'csee'", "'cse'"),
        ({"settings": ["cse.x=1"]}, "'cse' has no option 'x'", ""),
        ({"settings": ["cse"]}, "not of the form", ""),
        ({"stop_after": "dead-cod"}, "no such step", "'dead-code'"),
        ({"task": "fill-mask"}, "task cannot be chosen", ""),
        ({"dims": ["batch"]}, "not of the form NAME=SIZE", ""),
        ({"dims": ["batch=one"]}, "not of the form NAME=SIZE", ""),
        ({"dims": ["bach=1"]}, "no such dimension", "batch"),
    ],
)
def test_wrong_options_are_bad_input(
    write: Callable[[str], Path],
    recipe: str,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
    hint: str,
) -> None:
    source = write(FLOATS)
    before = listing(tmp_path)
    with pytest.raises(BadInput, match=message) as raised:
        optimize(source, tmp_path / "out", **({"recipe": recipe} | changes))

    assert hint in (raised.value.hint or "")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("wrong", ["another name", "one array", "a pickle", "text"])
def test_wrong_input_files_are_bad_input(
    write: Callable[[str], Path], recipe: str, tmp_path: Path, wrong: str
) -> None:
    path = tmp_path / "inputs.npz"
    with path.open("wb") as file:
        if wrong == "another name":
            np.savez(file, tokens=np.zeros((1, 2), np.int64))
        elif wrong == "one array":
            np.save(file, np.zeros(3))
        elif wrong == "a pickle":
            np.savez(file, ids=np.array([{}], dtype=object))
        else:
            file.write(b"not a zip file")

    with pytest.raises(BadInput, match=r"inputs\.npz"):
        optimize(write(TOKENS), tmp_path / "out", recipe=recipe, inputs=path)


def test_wrong_destinations_are_refused_before_the_work(
    write: Callable[[str], Path], recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the export began")

    package = optimize(write(FLOATS), tmp_path / "out", recipe=recipe)
    monkeypatch.setattr("graphopt.build._driver.export_parts", never)

    with pytest.raises(BadInput, match="not empty"):
        optimize(tmp_path / "net.onnx", package.path, recipe=recipe)
    with pytest.raises(BadInput, match="lies in the output folder"):
        optimize(package.path / "model.onnx", package.path, recipe=recipe, force=True)


def test_a_recipe_can_stop_early(write: Callable[[str], Path], recipe: str, tmp_path: Path) -> None:
    package = optimize(write(FLOATS), tmp_path / "out", recipe=recipe, stop_after="cse")

    assert [step.step for step in package.report().passes] == ["cse"]


WITH_FUNCTION = """
<ir_version: 10, opset_import: ["" : 13, "own" : 1]>
net (float[batch, 4] x) => (float[batch, 4] y)
{
  a = Identity(x)
  twice = own.twice(a)
  y = own.twice(twice)
}
<domain: "own", opset_import: ["" : 13]>
twice (a) => (b)
{
  b = Add(a, a)
}
"""


@pytest.mark.parametrize("refuses", ["functions", "the converter"])
def test_a_graph_that_cannot_be_upgraded_is_optimized_as_it_is(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    text = WITH_FUNCTION
    if refuses == "the converter":
        text = FLOATS.replace("23", "13").replace("Relu(both)", "Identity(both)")

        def refuse(*_: Any) -> None:
            raise onnx.version_converter.ConvertError("planted")

        monkeypatch.setattr("onnx.version_converter.convert_version", refuse)
    report = optimize(write(text), tmp_path / "out", recipe="lossless", dims=["batch=2"]).report()
    steps = {step.step: step for step in report.passes}

    assert report.closing.verdict == "passed"
    assert steps["remove-noops"].applied == 1
    assert "needs opset 23" in (steps["raise-attention"].skipped or "")
    assert any("stays at opset 13" in note for note in report.notes)


def test_exporting_runs_no_pass(write: Callable[[str], Path], tmp_path: Path) -> None:
    package = export_package(write(FLOATS), tmp_path / "out")

    assert package.report().passes == []
    assert package.manifest.recipe == "export"
    assert len(onnx.load(package.path / "model.onnx").graph.node) == 4


def test_a_package_with_missing_files_is_bad_input(
    write: Callable[[str], Path], recipe: str, tmp_path: Path
) -> None:
    package = optimize(write(FLOATS), tmp_path / "out", recipe=recipe)
    (package.path / "model.onnx").unlink()

    with pytest.raises(BadInput, match=r"model\.onnx is missing"):
        Package.load(package.path)


def test_a_cache_as_wide_as_a_tile_of_a_long_table_is_lowered(
    tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    """As Llama-3-8B's: 1024 entries a token, which makes the verifier try 1025 positions."""
    wide = {"num_attention_heads": 8, "head_dim": 256, "num_key_value_heads": 4}
    package = optimize(
        tiny_model("llama", **wide, max_position_embeddings=16384), tmp_path / "out", recipe="lossless"
    )

    lowered = next(p for p in package.report().passes if p.step == "lower-attention")
    assert {edit.verdict for edit in lowered.edits} == {"proven"}
