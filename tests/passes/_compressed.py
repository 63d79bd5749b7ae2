"""Small models of one or two weights, compressed and run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

import graphopt.ir._save as saving
from graphopt.ir import Scratch, parse, save_model
from graphopt.pipeline import Context, PassRecord
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step

Array = np.ndarray[Any, Any]

PRODUCT = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,%(k)d] x) => (float[B,S,%(n)d] y)
<float[%(k)d,%(n)d] w = ["location": "absent"]>
{
  y = MatMul(x, w)
}
"""
TIED = """<ir_version: 10, opset_import: ["" : 23]>
g (int64[B,S] ids, float[B,S,%(k)d] h) => (float[B,S,%(k)d] x, float[B,S,%(n)d] logits)
<float[%(n)d,%(k)d] w = ["location": "absent"]>
{
  x = Gather(w, ids)
  head = Transpose<perm = [1, 0]>(w)
  logits = MatMul(h, head)
}
"""


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def built(source: str, weights: Mapping[str, Array], **sizes: int) -> ir.Model:
    model = parse(source % sizes)
    for name, array in weights.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


class Compressed:
    """A model after one pass, saved to `folder` with its weights by way of a scratch file."""

    def __init__(self, model: ir.Model, name: str, folder: Path, **options: Any) -> None:
        if name.startswith("quantize"):
            options = {"smallest": 1, **options}
        recipe = Recipe("test", "", Budget(), (Step(name, options),))
        context = Context(model, scratch=Scratch(folder))
        self.model = model
        self.record: PassRecord = run_recipe(model, recipe, context).records[0]
        self.assumptions = list(context.assumptions.values())
        self.path = folder / "model.onnx"
        with mock.patch.object(saving, "_DATA_FROM", 0):
            save_model(model, self.path)

    @property
    def operators(self) -> Counter[str]:
        return Counter(node.op_type for node in self.model.graph)

    @property
    def reasons(self) -> list[str]:
        return [miss.reason for miss in self.record.near_misses]

    @property
    def stored(self) -> int:
        return self.path.with_name("model.onnx.data").stat().st_size

    def initializer(self, name: str) -> Array:
        tensor = self.model.graph.initializers[name].const_value
        assert tensor is not None
        return np.asarray(tensor.numpy())

    def run(self, *, optimized: bool = False, **feeds: Array) -> list[Array]:
        return list(_session(self.path, optimized).run(None, feeds))

    def as_loaded(self) -> Counter[str]:
        """The operators that onnxruntime is left with after its own optimizations."""
        after = self.path.with_name("loaded.onnx")
        _session(self.path, True, after)
        return Counter(node.op_type for node in onnx.load(after, load_external_data=False).graph.node)


def _session(path: Path, optimized: bool, save_to: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
