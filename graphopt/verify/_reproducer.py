"""A difference that anyone can see again: two models, inputs, and a script that needs only onnxruntime."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Container, Mapping
from pathlib import Path

import numpy as np
import onnx

__all__ = ["clear_reproducers", "discard_reproducer", "save_reproducer"]

_FILES = ("before.onnx", "after.onnx", "inputs.npz", "reproduce.py")

_PLAIN = {"V": np.float32, "O": np.str_}
"""What stands in a file for arrays that would be pickled: numpy has no such floats, and text is objects."""

_SCRIPT = '''\
"""{reason}"""
import os

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
for name in ("before", "after"):
    session = ort.InferenceSession(f"{{name}}.onnx", options, providers=["CPUExecutionProvider"])
    arrays = dict(np.load("inputs.npz"))
    for output in session.run(None, {{i.name: arrays[i.name] for i in session.get_inputs()}}):
        print(name, output.dtype, output.shape, output.ravel()[:8].tolist())
'''


def save_reproducer(
    folder: Path,
    models: Mapping[str, tuple[onnx.ModelProto, Mapping[str, np.ndarray]]],
    feeds: Mapping[str, np.ndarray],
    reason: str,
) -> None:
    """Write before.onnx, after.onnx, inputs.npz and reproduce.py; `models` come with their fed weights."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = dict(feeds)
    for name, (model, fed) in models.items():
        renamed = {key: f"{name}_{key}" for key in fed}
        for value in model.graph.input:
            value.name = renamed.get(value.name, value.name)
        for node in model.graph.node:
            node.input[:] = [renamed.get(value, value) for value in node.input]
        arrays |= {renamed[key]: array for key, array in fed.items()}
        onnx.save(model, folder / f"{name}.onnx")
    plain = {k: a.astype(_PLAIN.get(a.dtype.kind, a.dtype)) for k, a in arrays.items()}
    np.savez(folder / "inputs.npz", allow_pickle=False, **plain)
    text = textwrap.shorten(reason.replace('"', "'").replace("\\", "/"), 300)
    (folder / "reproduce.py").write_text(_SCRIPT.format(reason=text), encoding="utf-8")


def discard_reproducer(folder: Path) -> None:
    """Take away what `save_reproducer` wrote into `folder`, and what is empty then."""
    if not (folder / _FILES[-1]).is_file():
        return
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)
    for emptied in (folder, folder.parent):
        with contextlib.suppress(OSError):  # somebody else's files are in it
            emptied.rmdir()


def clear_reproducers(folder: Path, keep: Container[str]) -> None:
    """Take away the reproducers below `folder` but for those called as `keep` says: an earlier run's."""
    for found in sorted(folder.glob("*/reproduce.py")):
        if found.parent.name not in keep:
            discard_reproducer(found.parent)
