"""Image classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.export import load_torch_model
from graphopt.families import Case, ExportInputs, Family, InputDomain, Interface, PackageContext, Reference

from ._files import copy_config, copy_processor
from ._reference import PlainReference

BATCH = 2
_USUAL_SIZE = 224


class ImageClassifier(Family):
    """Image classifiers.

    The graph takes `pixel_values` float32[batch, channels, height, width], normalized as the model's image
    processor does, at the size the model was trained for; it gives `logits` float32[batch, classes].
    """

    name = "image-classifier"
    tasks = ("image-classification",)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return True

    def model_class(self, task: str) -> str:
        return "AutoModelForImageClassification"

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

        height, width = _image_size(model.config)
        channels = int(getattr(model.config, "num_channels", 3))
        pixels = torch.zeros(BATCH, channels, height, width, device=model.device)
        return ExportInputs({"pixel_values": pixels}, {"pixel_values": ("batch", channels, height, width)})

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return _Images(interface)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        model = load_torch_model(source_dir, self.model_class(task), trust_remote_code=trust_remote_code)
        return PlainReference(model, [spec.name for spec in interface.outputs], {})

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        copy_processor(source_dir, staging)
        copy_config(source_dir, staging)
        return []


def _image_size(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or _USUAL_SIZE
    return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))


class _Images(InputDomain):
    def __init__(self, interface: Interface) -> None:
        self.interface = interface

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        for name, batch in (("one", 1), ("batch", 3)):
            (spec,) = self.interface.inputs
            shape = [batch if isinstance(d, str) else int(d or 0) for d in spec.dims]
            feeds = {spec.name: rng.standard_normal(shape).astype(np.float32)}
            compare = {out.name: np.ones([1] * len(out.dims), np.bool_) for out in self.interface.outputs}
            yield Case(name, feeds, compare)
