"""The profile of a package, by node: what is read from onnxruntime's trace, and those of real packages."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphopt.errors import BadInput
from graphopt.evaluate import profile
from graphopt.evaluate._profile import Traced
from graphopt.ir import load_model
from graphopt.package import RunnablePackage


def kernel(name: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur}


def run(ts: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 90}


def test_the_median_of_the_last_rounds_counts() -> None:
    durations = [80, 1, 50, 2]  # the first is a warm-up
    events = [run(100 * n) for n in range(4)]
    events += [kernel("a", 100 * n + 5, took) for n, took in enumerate(durations)]
    assert Traced(events, 1).by_node() == {"a": pytest.approx(2e-6)}


def test_calls_of_a_round_are_added_up() -> None:
    events = [run(100 * n) for n in range(7)]
    events += [kernel("a", 100 * n + 5, took) for n, took in enumerate([70, 10, 1, 20, 2, 30, 3])]
    assert Traced(events, 2).by_node() == {"a": pytest.approx(22e-6)}


def test_what_a_node_holds_is_not_its_own_time() -> None:
    events: list[dict[str, Any]] = []
    for n in range(3):
        start = 100 * n
        events += [run(start), kernel("after", start + 60, 5), kernel("if", start + 10, 40)]
        events += [kernel("inner", start + 12, 10), kernel("inner", start + 25, 15)]
    found = Traced(events, 1).by_node()
    assert found == {
        "if": pytest.approx(15e-6),
        "inner": pytest.approx(25e-6),
        "after": pytest.approx(5e-6),
    }


def test_other_events_are_not_nodes() -> None:
    events = [run(100 * n) for n in range(3)]
    events.append({"cat": "Session", "name": "SequentialExecutor::Execute", "ts": 3, "dur": 80})
    events.append({"cat": "Node", "name": "a_fence_before", "ts": 3, "dur": 1})
    assert Traced(events, 1).by_node() == {}


def test_of_the_embedded_model_every_node_is_the_graphs(tiny_coder_at: Callable[[str], Path]) -> None:
    package = RunnablePackage.load(tiny_coder_at("int4"))
    found = profile(package)
    assert found.keys() == {"model"}
    nodes = {node.name: node.op_type for node in load_model(package.path / "model.onnx").graph.all_nodes()}
    assert found["model"].keys() <= nodes.keys()
    products = [name for name, operator in nodes.items() if operator == "MatMulNBits"]
    assert len(products) == 31
    timed = [name for name in products if found["model"].get(name, 0) > 0]
    assert len(timed) >= 31 - 6  # kernels of our own compute the gate and the values of an MLP in one


def test_a_model_that_writes_no_text_is_called(encoder: tuple[Path, Path]) -> None:
    found = profile(RunnablePackage.load(encoder[1]))
    assert sum(found["model"].values()) > 0


def test_a_package_of_which_no_inputs_are_known(encoder: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(encoder[1], tmp_path / "package")
    (tmp_path / "package" / "config.json").unlink()
    with pytest.raises(BadInput, match=r"legal inputs of .* are unknown"):
        profile(RunnablePackage.load(tmp_path / "package"))
