"""A third party's plugin, really installed and used from the command line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugins.conftest import Environment

BROKEN = 'raise RuntimeError("no such library")\n'
LEAVES = "import sys\nsys.exit('I leave')\n"
NO_PACK = "PACK = 1\n"
NAMELESS = "from graphopt.plugins import Pack\nclass P: name = 'p'\nPACK = Pack(passes=(P,))\n"
CLASHING = """
from graphopt.pipeline import Contract, Level, Pass
from graphopt.plugins import Pack
class Mine(Pass):
    "My own."
    name, level, contract = "{name}", Level.IMPROVE, Contract.exact()
    def edits(self, graph, context):
        yield from ()
PACK = Pack(passes=(Mine,))
"""
UNSTABLE = """
import onnx_ir as ir
from graphopt.pipeline import Contract, Edit, Level, Pass
from graphopt.plugins import Pack
class Unstable(Pass):
    "Whatever comes first out of a set."
    name, level, contract = "unstable", Level.IMPROVE, Contract.exact()
    def edits(self, graph, context):
        for node in tuple(graph):
            before = node.inputs[0].producer() if node.inputs else None
            if node.op_type == "Neg" and (before is None or before.op_type != "Identity"):
                made = [ir.Node("", "Identity", node.inputs)]
                for _ in range(int(next(iter({str(n) for n in range(100)})))):
                    made.append(ir.Node("", "Identity", made[-1].outputs))
                made.append(ir.Node("", "Neg", made[-1].outputs))
                yield Edit("new", remove=[node], insert=made, replace={node.outputs[0]: made[-1].outputs[0]})
PACK = Pack(passes=(Unstable,))
"""
CODELESS = """
from graphopt.lint import rule
from graphopt.plugins import Pack
@rule("relus", "relus", "note")
def relus(subject):
    "A summary.\\n\\nA reason.\\n\\nA remedy."
    return ()
PACK = Pack(rules=(relus,))
"""
MODEL = """
import onnx, onnx.parser, numpy
model = onnx.parser.parse_model('''<ir_version: 10, opset_import: ["" : 23]>
g (float[N] x) => (float[N] y) { a = Relu(x)  b = Relu(a)  c = Relu(b)  y = Neg(c) }''')
onnx.save(model, "model.onnx")
numpy.savez("inputs.npz", x=numpy.arange(-2, 2, dtype=numpy.float32))
"""
Pretend = Callable[..., Environment]


def fine(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_pass_and_recipe_are_listed(with_sample: Environment, tmp_path: Path) -> None:
    listed = fine(with_sample.run("-m", "graphopt", "passes", "list", cwd=tmp_path))

    assert "relu-of-relu" in listed
    assert "relus" in listed
    assert "most: int = 100" in fine(with_sample.graphopt("passes", "show", "relu-of-relu", cwd=tmp_path))


def test_its_recipe_optimizes(with_sample: Environment, tmp_path: Path) -> None:
    fine(with_sample.run("-c", MODEL, cwd=tmp_path))
    arguments = ("optimize", "model.onnx", "-o", "out", "--recipe", "relus", "--inputs", "inputs.npz")
    fine(with_sample.graphopt(*arguments, cwd=tmp_path))

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    applied = [edit["outcome"] for edit in report["passes"][0]["edits"]]
    lock = json.loads((tmp_path / "out" / "graphopt.lock").read_text())

    assert applied == ["applied", "applied"]
    assert report["closing"]["verdict"] == "passed"
    assert ("graphopt-sample", "1.2") in {(p["distribution"], p["version"]) for p in lock["packs"]}


def test_its_recipe_extends_a_built_in_one(with_sample: Environment, tmp_path: Path) -> None:
    fine(with_sample.run("-c", MODEL, cwd=tmp_path))
    shown = fine(with_sample.graphopt("passes", "show", "lossless-relus", cwd=tmp_path))
    asked = ("--recipe", "lossless-relus", "--inputs", "inputs.npz")
    fine(with_sample.graphopt("optimize", "model.onnx", "-o", "out", *asked, cwd=tmp_path))
    lock = json.loads((tmp_path / "out" / "graphopt.lock").read_text())
    steps = [step["name"].partition("#")[0] for step in lock["steps"]]

    assert '# @compress of lossless-relus\n[[pass]]\nname = "relu-of-relu"\n' in shown
    assert steps[steps.index("pack-qkv") + 1] == "relu-of-relu"


def test_its_rule_finds_and_its_pass_mends(with_sample: Environment, tmp_path: Path) -> None:
    fine(with_sample.run("-c", MODEL, cwd=tmp_path))
    found = with_sample.graphopt("lint", "model.onnx", "--json", "found.json", cwd=tmp_path)
    mend = ("lint", "model.onnx", "--fix", "-o", "out", "--inputs", "inputs.npz", "--json", "mended.json")
    fine(with_sample.graphopt(*mend, cwd=tmp_path))
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("found.json", "mended.json"))

    assert found.returncode == 1
    assert "SAMPLE001 warning  A Relu of a Relu changes nothing." in found.stdout
    assert [one["code"] for one in first["findings"]] == ["SAMPLE001", "SAMPLE001"]
    assert second["left"] == []


def test_a_rule_without_a_code_is_no_rule(pretend: Pretend, tmp_path: Path) -> None:
    environment = pretend("graphopt-codeless", CODELESS)
    done = environment.graphopt("passes", "list", cwd=tmp_path)

    assert done.returncode == 0
    assert "the rule 'relus' has no code like AB123" in done.stderr


def test_it_conforms(with_sample: Environment, tmp_path: Path) -> None:
    done = with_sample.graphopt("passes", "check", "graphopt-sample", "--json", "found.json", cwd=tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())

    assert "relu-of-relu" in fine(done)
    assert "conforms" in done.stdout
    assert [(p["name"], p["problems"]) for p in found["passes"]] == [("relu-of-relu", [])]
    assert found["passes"][0]["changed"] > 2


def test_a_plugin_that_does_not_conform_fails(pretend: Pretend, tmp_path: Path) -> None:
    environment = pretend("graphopt-idle", CLASHING.format(name="idle"))
    done = environment.graphopt("passes", "check", "graphopt-idle", cwd=tmp_path)

    assert done.returncode == 1
    assert "applies" in done.stdout
    assert "give it examples" in done.stdout


def test_what_hangs_on_the_order_of_a_set_fails(pretend: Pretend, tmp_path: Path) -> None:
    environment = pretend("graphopt-unstable", UNSTABLE)
    done = environment.graphopt("passes", "check", "graphopt-unstable", "--json", "-", cwd=tmp_path)
    (found,) = json.loads(done.stdout)["passes"]

    assert done.returncode == 1
    assert [(p["promise"], "order sets" in p["said"]) for p in found["problems"]] == [("deterministic", True)]


def test_checking_another_distribution_is_bad_input(with_sample: Environment, tmp_path: Path) -> None:
    done = with_sample.graphopt("passes", "check", "graphopt-sampel", cwd=tmp_path)

    assert done.returncode == 2
    assert "Did you mean 'graphopt-sample'?" in done.stderr


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (BROKEN, "cannot be imported: RuntimeError: no such library"),
        (LEAVES, "cannot be imported: SystemExit: I leave"),
        (NO_PACK, "is not a graphopt.plugins.Pack"),
        (NAMELESS, "has no 'level'"),
    ],
)
def test_a_broken_plugin_disables_itself(pretend: Pretend, tmp_path: Path, source: str, reason: str) -> None:
    environment = pretend("graphopt-broken", source)
    done = environment.graphopt("passes", "list", cwd=tmp_path)

    assert "relu-of-relu" in fine(done)
    assert done.stderr.count("plugin 'graphopt-broken' of graphopt-broken 0.1 is left out") == 1
    assert done.stderr.count("warning") == 1
    assert reason in done.stderr
    assert reason in done.stdout


def test_asking_for_what_a_broken_plugin_may_bring_says_so(pretend: Pretend, tmp_path: Path) -> None:
    done = pretend("graphopt-broken", BROKEN).graphopt("passes", "show", "great-pass", cwd=tmp_path)

    assert done.returncode == 2
    assert "unknown pass 'great-pass'" in done.stderr
    assert "It may be from a plugin that is not in use: plugin 'graphopt-broken'" in done.stderr


def test_two_passes_of_one_name_are_an_error(pretend: Pretend, tmp_path: Path) -> None:
    environment = pretend("graphopt-clash", CLASHING.format(name="cse"))
    done = environment.graphopt("passes", "list", cwd=tmp_path)

    assert done.returncode == 4
    assert "two passes are called 'cse'" in done.stderr
    assert "graphopt-clash" in done.stderr
    assert "--no-plugins" in done.stderr
    assert "cse" in fine(environment.graphopt("passes", "list", "--no-plugins", cwd=tmp_path))


def test_without_plugins_none_is_imported(pretend: Pretend, tmp_path: Path) -> None:
    done = pretend("graphopt-broken", BROKEN).graphopt("passes", "list", "--no-plugins", cwd=tmp_path)

    assert "relu-of-relu" not in fine(done)
    assert "cannot be imported" not in done.stderr + done.stdout
    assert "plugin 'sample' of graphopt-sample 1.2 is left out: plugins are switched off" in done.stdout


def test_without_plugins_their_recipes_are_unknown(with_sample: Environment, tmp_path: Path) -> None:
    fine(with_sample.run("-c", MODEL, cwd=tmp_path))
    done = with_sample.graphopt("optimize", "model.onnx", "--recipe", "relus", "--no-plugins", cwd=tmp_path)

    assert done.returncode == 2
    assert "unknown recipe 'relus'" in done.stderr
    assert "plugins are switched off" in done.stderr


@pytest.mark.parametrize("name", ["graphopt-sample", "Graphopt_Sample"])
def test_only_allowed_plugins_are_imported(pretend: Pretend, tmp_path: Path, name: str) -> None:
    environment = pretend("graphopt-broken", BROKEN)
    (tmp_path / "graphopt.toml").write_text(f'[plugins]\nallow = ["{name}"]\n[other]\nx = 1\n')
    done = environment.graphopt("passes", "list", cwd=tmp_path)

    assert "relu-of-relu" in fine(done)
    assert "graphopt-broken 0.1 is left out: graphopt.toml does not allow it" in done.stdout
    assert "cannot be imported" not in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("[plugins]\nallow = 1\n", "plugins.allow"), ("[plugins]\nalow = []\n", "plugins.alow"), ("[", "TOML")],
)
def test_a_wrong_configuration_is_bad_input(
    with_sample: Environment, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "graphopt.toml").write_text(text)
    done = with_sample.graphopt("passes", "list", cwd=tmp_path)

    assert done.returncode == 2
    assert said in done.stderr
