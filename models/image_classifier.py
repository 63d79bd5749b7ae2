"""Image classifiers, and encoders of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, Family, InputDomain, PackageContext, Reference
from graphopt.interface import Interface

from ._files import copy_config, copy_processor
from ._image_domain import ImageDomain, sample_images
from ._reference import PlainReference


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
        return sample_images(model)

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return ImageDomain(interface)

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


class ImageEncoder(ImageClassifier):
    """Encoders of images: the vision towers of CLIP and SigLIP, and classifiers' models without a head.

    The graph takes what a classifier's does; it gives what the model gives, under the same names, in float32.
    """

    name = "image-encoder"
    tasks = ("feature-extraction",)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return config.get("vocab_size") is None and config.get("num_channels") is not None

    def model_class(self, task: str) -> str:
        return "AutoModel"
