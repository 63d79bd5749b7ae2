"""A difference that anyone can see again: two models, inputs, and a script that needs only onnxruntime."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

__all__ = ["save_reproducer"]

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
    plain = {k: a.astype(np.float32) if a.dtype.kind == "V" else a for k, a in arrays.items()}
    np.savez(folder / "inputs.npz", allow_pickle=False, **plain)
    text = textwrap.shorten(reason.replace('"', "'").replace("\\", "/"), 300)
    (folder / "reproduce.py").write_text(_SCRIPT.format(reason=text), encoding="utf-8")
