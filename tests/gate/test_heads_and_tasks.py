"""Gates of models with heads and of tasks: a planted change fails the gate that is about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.cli._main import run
from graphopt.gate import _measuring
from graphopt.package import RunnablePackage
from tests.evaluate._head_models import DETR, damaged, onnx_package

CLASSIFIER = """
<ir_version: 10, opset_import: ["" : 21]>
classifier (float[batch, 8] features) => (float[batch, 8] logits)
<float[8] bias = {0, 0, 0, 0, 0, 0, 0, 0}>
{
  logits = Add (features, bias)
}
"""
Verdicts = tuple[int, dict[str, str]]


def verdicts(package: Path, baseline: Path, *options: str) -> Verdicts:
    """The exit code, and verdicts by metric and scope."""
    result = package.parent / "result.json"
    code = run(["gate", str(package), "--baseline", str(baseline), "--json", str(result), "-q", *options])
    outcomes = json.loads(result.read_text())["outcomes"]
    return code, {f"{one['metric']} {one['scope']}".strip(): one["verdict"] for one in outcomes}


def gates(*texts: str) -> list[str]:
    return [part for text in texts for part in ("--gate", text)]


def test_labels(tmp_path: Path) -> None:
    whole = onnx_package(CLASSIFIER, tmp_path / "whole")
    features = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    data = tmp_path / "data.npz"
    np.savez(data, features=features, labels=features.argmax(-1))
    asked = gates("label_agreement >= 0.9", "label_accuracy >= 0.95x", "flips_lost <= 0.05")
    same = verdicts(whole.path, whole.path, *asked, "--data", str(data))
    assert same == (
        0,
        {"label_agreement": "pass", "label_accuracy labels": "pass", "flips_lost labels": "pass"},
    )
    shift = np.eye(8, dtype=np.float32)[0] * 2
    bad = damaged(whole.path, tmp_path / "bad" / "package", "bias", lambda b: b + shift)
    code, found = verdicts(bad.path, whole.path, *asked, "--data", str(data))
    assert code == 1
    assert set(found.values()) == {"fail"}


def test_objects(tmp_path: Path) -> None:
    from tests.evaluate.test_detection import images

    whole = onnx_package(DETR, tmp_path / "whole")
    np.savez(tmp_path / "images.npz", pixel_values=images(20)[0])
    bad = damaged(whole.path, tmp_path / "bad" / "package", "moved", lambda m: m + np.float32(0.03))
    asked = [*gates("mean_average_precision >= 0.95"), "--data", str(tmp_path / "images.npz")]
    assert verdicts(whole.path, whole.path, *asked) == (0, {"mean_average_precision": "pass"})
    assert verdicts(bad.path, whole.path, *asked) == (1, {"mean_average_precision": "fail"})


def test_a_metric_of_another_head_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = onnx_package(CLASSIFIER, tmp_path / "whole")
    command = ["gate", str(whole.path), "--baseline", str(whole.path), "-q"]
    assert run([*command, *gates("span_agreement >= 0.9")]) == 2
    assert "no span_agreement" in capsys.readouterr().err


def test_tasks_need_task_files_and_lm_eval(
    tiny_coder_at: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package: Any = RunnablePackage.load(tiny_coder_at("lossless")).path
    command = ["gate", str(package), "--baseline", str(package), "-q", *gates("task_accuracy >= 1x")]
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert run([*command, "--tasks", str(tmp_path)]) == 4
    assert "pip install 'graphopt[tasks]'" in capsys.readouterr().err
    monkeypatch.setattr(_measuring, "require_lm_eval", lambda: None)
    assert run(command) == 2
    assert "--tasks" in capsys.readouterr().err


def test_a_stored_result_is_a_baseline_of_objects(tmp_path: Path) -> None:
    from tests.evaluate.test_detection import images

    whole = onnx_package(DETR, tmp_path / "whole")
    pixels, boxes, labels = images(20)
    np.savez(tmp_path / "images.npz", pixel_values=pixels, boxes=boxes, labels=labels)
    data = ["--data", str(tmp_path / "images.npz")]
    assert verdicts(whole.path, whole.path, *gates("mean_average_precision >= 0.9"), *data)[0] == 0
    stored = (whole.path.parent / "result.json").rename(tmp_path / "stored.json")
    bad = damaged(whole.path, tmp_path / "bad" / "package", "moved", lambda m: m + np.float32(0.03))
    asked = [*gates("mean_average_precision >= 0.95x"), *data, "--reference", str(whole.path)]
    assert verdicts(whole.path, stored, *asked) == (0, {"mean_average_precision labels": "pass"})
    assert verdicts(bad.path, stored, *asked) == (1, {"mean_average_precision labels": "fail"})
