"""Models that find objects in images, or say something of each of their pixels."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

from graphopt.families import ExportInputs

from ._image_domain import sample_images
from .image_classifier import ImageClassifier


class _ImageTask(ImageClassifier):
    """The graph takes `pixel_values` float32[batch, channels, height, width], normalized as the model's image
    processor does; height and width are free where the configuration names none, else what it names."""

    outputs: ClassVar[tuple[str, ...]]
    auto_class: ClassVar[str]

    def model_class(self, task: str) -> str:
        return self.auto_class

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        images = sample_images(model, free=True)
        return ExportInputs(images.kwargs, images.dims, self.outputs, forward=self._traceable(model))

    def tracing(self, model: Any) -> AbstractContextManager[None]:
        return _lengths_stay_free(sys.modules[type(model).__module__])

    def _traceable(self, model: Any) -> Any:
        """The model's own call, that gives what the graph gives."""

        def forward(call: Any, **tensors: Any) -> tuple[Any, ...]:
            results = call(**tensors, return_dict=True)
            return tuple(results[name] for name in self.outputs)

        return partial(forward, model.forward)


class ObjectDetector(_ImageTask):
    """Detectors that tell a set of objects: YOLOS, DETR, RT-DETR and their like.

    The graph gives `logits` float32[batch, queries, classes] and `pred_boxes` float32[batch, queries, 4]:
    centre, width and height as shares of the image (Carion et al. 2020, arXiv:2005.12872).
    """

    name = "object-detector"
    tasks = ("object-detection",)
    outputs = ("logits", "pred_boxes")
    auto_class = "AutoModelForObjectDetection"


class Segmenter(_ImageTask):
    """Models that give each pixel a class: `logits` float32[batch, classes, rows, columns], often of fewer
    rows and columns than the image has."""

    name = "segmenter"
    tasks = ("image-segmentation",)
    outputs = ("logits",)
    auto_class = "AutoModelForSemanticSegmentation"


class DepthEstimator(_ImageTask):
    """Models that give each pixel a depth, of no unit: `predicted_depth` float32[batch, rows, columns]."""

    name = "depth-estimator"
    tasks = ("depth-estimation",)
    outputs = ("predicted_depth",)
    auto_class = "AutoModelForDepthEstimation"


@contextlib.contextmanager
def _lengths_stay_free(module: Any) -> Iterator[None]:
    """Inside, `len` of a tensor in `module` is its first dimension, which may be any.

    Python's own is a number, and RT-DETR (transformers 5.23) takes its batch from it: a trace would be of
    one batch alone.
    """
    import torch

    module.len = lambda of: of.shape[0] if isinstance(of, torch.Tensor) else len(of)
    try:
        yield
    finally:
        del module.len
