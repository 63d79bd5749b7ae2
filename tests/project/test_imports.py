"""The import contract, and what starting the command line may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests._cache import ROOT
from tests.project._imports import contract_violations

HEAVY = (
    "torch",
    "transformers",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime_genai",
    "optuna",
    "ray",
    "scipy",
)


def test_graphopt_and_its_packs_keep_the_import_contract() -> None:
    assert contract_violations(ROOT) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("graphopt/ir", "passes/deep", "targets", "models"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "graphopt" / "__init__.py").write_text("__all__ = ['optimize']\n")
    (tmp_path / "graphopt" / "ir" / "__init__.py").write_text("__all__ = ['load_model']\nsecret = 1\n")
    (tmp_path / "graphopt" / "ir" / "_lazy.py").write_text("__all__ = ['lazy']\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("graphopt/cli.py", "import passes"),
        ("graphopt/cli.py", "from graphopt_targets import PACK"),
        ("graphopt/cli.py", "def f():\n    import graphopt_models.tiny_coder"),
        ("graphopt/cli.py", "import importlib\nimportlib.import_module('graphopt_passes')"),
        ("passes/a.py", "from graphopt.ir._tensor import lazy"),
        ("passes/a.py", "from graphopt.ir import secret"),
        ("passes/a.py", "from graphopt.ir import _tensor"),
        ("passes/a.py", "from graphopt.nowhere import x"),
        ("passes/a.py", "import graphopt.ir"),
        ("passes/a.py", "from graphopt_passes.b import x"),
        ("passes/a.py", "from .. import targets"),
        ("passes/deep/a.py", "from ...graphopt.ir import load_model"),
        ("targets/a.py", "from passes.b import x"),
    ],
)
def test_a_breach_of_the_contract_is_found(tree: Path, path: str, source: str) -> None:
    (tree / path).write_text(source)

    assert [line.split(":")[0] for line in contract_violations(tree)] == [path]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "graphopt/cli.py",
            "from importlib.metadata import entry_points\nentry_points(group='graphopt.passes')",
        ),
        ("passes/a.py", "from graphopt import ir, optimize\nfrom graphopt.ir import load_model"),
        ("passes/deep/a.py", "from ..b import x\nfrom .c import y\nimport numpy"),
    ],
)
def test_what_the_contract_allows_is_not_reported(tree: Path, path: str, source: str) -> None:
    (tree / path).write_text(source)

    assert contract_violations(tree) == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["optimize", "--help"], ["run", "--help"], ["sweep", "--help"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from graphopt.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None), end.code\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, cwd="/"
    )
    loaded = set(done.stderr.split("\n"))

    assert done.stdout.strip()
    assert loaded.isdisjoint(HEAVY), f"imports {sorted(loaded.intersection(HEAVY))}"


@pytest.mark.parametrize("module", ["graphopt", "graphopt.io", "graphopt.errors"])
def test_what_everything_stands_on_imports_the_standard_library_alone(module: str) -> None:
    script = f"import sys\nbefore = {{*sys.modules}}\nimport {module}\nprint(*{{*sys.modules}} - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")
    heads = {name.split(".")[0] for name in done.stdout.split()}

    assert heads - {*sys.stdlib_module_names} == {"graphopt"}


@pytest.mark.parametrize("module", ["graphopt.ir", "graphopt.interface", "graphopt.pipeline"])
def test_what_a_plugin_is_written_with_imports_no_framework(module: str) -> None:
    script = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/")

    assert {"onnxruntime", "onnxscript", "torch", "transformers"}.isdisjoint(done.stdout.split("\n"))
