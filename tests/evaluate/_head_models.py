"""Packages of tiny models with heads, whole and damaged, and a detector that shows what its image holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from graphopt import Package, export_package
from graphopt.evaluate import AccuracySamples, measure_heads
from graphopt.metrics import Sample, estimate
from graphopt.package import RunnablePackage

Array = np.ndarray[Any, Any]

# An image's numbers are the answer: a channel for each detection, four of its box, then logits of two classes
# and of no object.
DETR = """
<ir_version: 10, opset_import: ["" : 21]>
detector (float[batch, 5, 1, 7] pixel_values) => (float[batch, 5, 3] logits, float[batch, 5, 4] pred_boxes)
<int64[1] at_4 = {4}, int64[1] at_7 = {7}, int64[1] at_0 = {0}, int64[1] axis = {2}, float[1] moved = {0}>
{
  rows = Squeeze (pixel_values, axis)
  boxes = Slice (rows, at_0, at_4, axis)
  pred_boxes = Add (boxes, moved)
  logits = Slice (rows, at_4, at_7, axis)
}
"""
# The same as boxes by corners, scores and labels, of one image without an axis for several.
PLAIN = """
<ir_version: 10, opset_import: ["" : 21]>
detector (float[3, 2, 3] image) => (float[n, 4] boxes, float[n] scores, int64[n] labels)
<int64[2] flat = {-1, 6}, int64[1] axis = {1}, int64[1] at_0 = {0}, int64[1] at_4 = {4}, int64[1] at_5 = {5},
 int64[1] at_6 = {6}, int64[1] added = {0}>
{
  rows = Reshape (image, flat)
  boxes = Slice (rows, at_0, at_4, axis)
  column = Slice (rows, at_4, at_5, axis)
  scores = Squeeze (column, axis)
  last = Slice (rows, at_5, at_6, axis)
  number = Squeeze (last, axis)
  label = Cast <to = 7> (number)
  labels = Add (label, added)
}
"""


def onnx_package(text: str, folder: Path) -> Package:
    """The package of the graph in `text`."""
    folder.mkdir()
    onnx.save(parser.parse_model(text), folder / "model.onnx")
    return export_package(folder / "model.onnx", folder / "package")


def damaged(package: Path, folder: Path, name: str, change: Callable[[Array], Array]) -> RunnablePackage:
    """A copy of `package` in which `change` is made to the weight `name`."""
    shutil.copytree(package, folder)
    model = onnx.load(folder / "model.onnx")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    weight.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weight)), name))
    (folder / "model.onnx.data").unlink(missing_ok=True)
    onnx.save(model, folder / "model.onnx")
    return RunnablePackage.load(folder)


def measured(
    package: RunnablePackage,
    reference: RunnablePackage | Path,
    *metrics: str,
    baseline: RunnablePackage | None = None,
    data: Path | None = None,
) -> AccuracySamples:
    return measure_heads(
        package,
        reference.path if isinstance(reference, RunnablePackage) else reference,
        baseline,
        metrics=metrics,
        data=data,
        trust_remote_code=False,
        say=lambda text: None,
    )


def values(found: AccuracySamples) -> dict[str, float]:
    """By title of the sample."""
    return {sample.title: estimate(sample.evidence).value for sample in found.samples}


def sample_of(samples: Collection[Sample], metric: str, scope: str = "") -> Sample:
    (found,) = (sample for sample in samples if (sample.metric, sample.scope) == (metric, scope))
    return found
