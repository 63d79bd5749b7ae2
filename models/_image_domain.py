"""Images as models take them, and legal calls with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphopt.families import Case, ExportInputs, InputDomain
from graphopt.interface import Interface, TensorSpec

BATCH = 2
"""Images of the sample call: torch takes a size of 1 for a constant."""
_USUAL_SIZE = 224
"""Height and width where the configuration names none: what ImageNet classifiers are trained at."""


def sample_images(model: Any, batch: str = "batch") -> ExportInputs:
    """`pixel_values` float32[`batch`, channels, height, width], of the size the model was trained for."""
    import torch

    config = getattr(model.config, "vision_config", model.config)
    size = getattr(config, "image_size", None) or _USUAL_SIZE
    height, width = (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))
    channels = int(getattr(config, "num_channels", 3))
    pixels = torch.zeros(BATCH, channels, height, width, device=model.device)
    return ExportInputs({"pixel_values": pixels}, {"pixel_values": (batch, channels, height, width)})


def draw_images(rng: np.random.Generator, spec: TensorSpec, batch: int) -> np.ndarray:
    """`batch` images of random pixels, as `spec` has them."""
    shape = [batch if isinstance(d, str) else int(d or 0) for d in spec.dims]
    return rng.standard_normal(shape).astype(np.float32)


def everywhere(interface: Interface) -> dict[str, np.ndarray]:
    """Every place of every output is compared."""
    return {out.name: np.ones([1] * len(out.dims), np.bool_) for out in interface.outputs}


class ImageDomain(InputDomain):
    """Calls of a model that takes nothing but images: one, and a batch."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        for name, batch in (("one", 1), ("batch", 3)):
            (spec,) = self.interface.inputs
            yield Case(name, {spec.name: draw_images(rng, spec, batch)}, everywhere(self.interface))
