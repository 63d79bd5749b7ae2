"""Images as models take them, and legal calls with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.families import Case, ExportInputs, InputDomain
from graphopt.interface import Dim, Interface, TensorSpec
from graphopt.io import read_json

BATCH = 2
"""Images of the sample call: torch takes a size of 1 for a constant."""
_USUAL_SIZE = 224
"""Height and width where the configuration names none: what ImageNet classifiers are trained at."""
_USUAL_ANCHORS = 640
"""Height and width that published RT-DETR models are trained and run at."""
FREE_SIZE = (96, 160)
"""Height and width of the sample call where they are free: unlike, and neither a model's usual size."""


def sample_images(model: Any, batch: str = "batch", *, free: bool = False) -> ExportInputs:
    """`pixel_values` float32[`batch`, channels, height, width], of the size the model was trained for.

    The configuration says that, or the image processor beside it. With `free`, height and width are free
    where the configuration names none.
    """
    import torch

    config = getattr(model.config, "vision_config", model.config)
    processed = _processed_size(model.config)
    named = _named_size(config, processed)
    size = named or processed or _USUAL_SIZE
    height, width = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
    channels = int(getattr(config, "num_channels", 3))
    dims: tuple[Dim, ...] = (batch, channels, height, width)
    if free and not named:
        height, width = FREE_SIZE
        dims = (batch, channels, "height", "width")
    pixels = torch.zeros(BATCH, channels, height, width, device=model.device)
    return ExportInputs({"pixel_values": pixels}, {"pixel_values": dims})


def _named_size(config: Any, processed: Any) -> Any:
    """Height and width, or both as one number, that a configuration names; None where any size is right."""
    if hasattr(config, "anchor_image_size"):  # RT-DETR and D-FINE make their anchors once, for one size
        return config.anchor_image_size or config.eval_size or processed or _USUAL_ANCHORS
    backbone = getattr(config, "backbone_config", None)
    return getattr(config, "image_size", None) or getattr(backbone, "image_size", None)


def _processed_size(config: Any) -> tuple[int, int] | None:
    """Height and width of any picture once the model's own image processor is through with it.

    None where it has none, or one that leaves pictures their proportions. ConvNext's cuts a square.
    """
    folder = str(getattr(config, "_name_or_path", ""))
    file = Path(folder) / "preprocessor_config.json"
    said = read_json(file) if folder and file.is_file() else {}
    size = said.get("crop_size" if said.get("do_center_crop") else "size")
    if isinstance(size, dict) and str(said.get("image_processor_type")).startswith("ConvNext"):
        size = size.get("shortest_edge", size)
    height, width = (size.get("height"), size.get("width")) if isinstance(size, dict) else (size, size)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def draw_images(
    rng: np.random.Generator, spec: TensorSpec, batch: int, size: tuple[int, int] = FREE_SIZE
) -> np.ndarray:
    """`batch` images of random pixels, as `spec` has them; of `size` where height and width are free."""
    free = (batch, 0, *size)
    shape = [free[i] if isinstance(d, str) else int(d or 0) for i, d in enumerate(spec.dims)]
    return rng.standard_normal(shape).astype(np.float32)


def everywhere(interface: Interface) -> dict[str, np.ndarray]:
    """Every place of every output is compared."""
    return {out.name: np.ones([1] * len(out.dims), np.bool_) for out in interface.outputs}


class ImageDomain(InputDomain):
    """Calls of a model that takes nothing but images: one, and a batch; other sizes where they are free."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        (spec,) = self.interface.inputs
        calls = {"one": (1, FREE_SIZE), "batch": (3, FREE_SIZE)}
        if isinstance(spec.dims[-1], str):
            calls |= {"square": (1, (128, 128)), "odd": (2, (131, 101))}
        for name, (batch, size) in calls.items():
            yield Case(name, {spec.name: draw_images(rng, spec, batch, size)}, everywhere(self.interface))
