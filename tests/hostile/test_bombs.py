"""Odd graphs, and such as grow once computed: limits hold, and never a bug.

What the limits are for takes terabytes or never ends. Here they are lowered instead, and the graphs are
harmless to whatever else may read them.
"""

from __future__ import annotations

import threading
from pathlib import Path

import graphopt_passes.fold_constants as fold_constants
import pytest

import graphopt
import graphopt.targets._registered as kernels
from graphopt import BadInput
from graphopt.ir import _admission, load_model
from graphopt.pipeline import Context
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, OptimizeOptions, Recipe, Step
from tests.hostile._limited import run_limited
from tests.hostile.files import BOMBS, LEGAL, UNRUNNABLE, serialized
from tests.hostile.files._bombs import loop

FILES = LEGAL | UNRUNNABLE
INCONCLUSIVE = {"inputs_of_negative_size"}
LIMIT = 4 << 10


@pytest.mark.parametrize("name", FILES)
def test_it_is_optimized_or_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "net.data").write_bytes(bytes(16))
    (folder / "net.onnx").write_bytes(serialized(FILES[name]()))
    done = run_limited(("optimize", "net.onnx", "-o", "out", "--recipe", "lossless", "--quiet"), folder)
    expected = 3 if name in INCONCLUSIVE else 0 if name in LEGAL else 2

    assert done.code == expected, done.err
    assert "Traceback" not in done.err
    assert (folder / "out").exists() == (expected != 2)


def written(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    return path


def folded(path: Path, **options: int) -> list[int]:
    """Bytes of the weights after fold-constants."""
    model = load_model(path)
    recipe = Recipe("fold", "", Budget(), (Step("fold-constants", options),))
    run_recipe(model, recipe, Context(model), OptimizeOptions(verify="off"))
    tensors = (value.const_value for value in model.graph.initializers.values())
    return [tensor.nbytes for tensor in tensors if tensor is not None]


@pytest.mark.parametrize("name", BOMBS)
def test_no_large_result_is_computed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(serialized(BOMBS[name]()), tmp_path)

    assert max(folded(path)) > LIMIT
    assert max(folded(path, max_growth=LIMIT)) <= LIMIT
    monkeypatch.setattr(fold_constants, "_READ_LIMIT", LIMIT)
    assert max(folded(path)) <= LIMIT


def test_many_small_results_have_one_budget(tmp_path: Path) -> None:
    path = written(serialized(LEGAL["many_constants_just_below_the_limit"]()), tmp_path)

    assert sum(folded(path)) > 4 * LIMIT
    assert sum(folded(path, max_growth=LIMIT)) <= 2 * LIMIT


@pytest.mark.parametrize("name", BOMBS)
def test_a_result_larger_than_the_memory_is_refused_by_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(serialized(BOMBS[name]()), tmp_path)
    monkeypatch.setattr(fold_constants, "_READ_LIMIT", LIMIT)
    monkeypatch.setattr(kernels, "_memory", lambda: LIMIT)
    with pytest.raises(BadInput, match=r"its result takes [\d,]+ bytes, more than the machine has"):
        graphopt.optimize(path, tmp_path / "out", recipe="lossless", verify="off", cache=False)


def test_functions_that_make_too_many_nodes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(serialized(LEGAL["functions_that_double_eight_times"]()), tmp_path)
    assert load_model(path).functions
    monkeypatch.setattr(_admission, "_MOST_NODES", 100)
    with pytest.raises(BadInput, match="make more than 100 nodes"):
        load_model(path)


class Now(threading.Timer):
    """A timer that does not wait."""

    def start(self) -> None:
        self.function(*self.args, **self.kwargs)


def test_a_model_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(serialized(loop(steps=1000)), tmp_path)
    monkeypatch.setattr(threading, "Timer", Now)
    with pytest.raises(BadInput, match="terminate"):
        graphopt.optimize(path, tmp_path / "out", recipe="lossless", verify="off", cache=False)
