"""The nets of vision.py by name: how each is made, and what it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _images import CLASSES, SCENE, SIDE, THINGS, images, planar, scene
from PIL import Image

NETS = Path(__file__).parent / "vision_nets"
WIDTH = 8
"""Of the first layer of the detector that is trained."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Source:
    """`samples` gives inputs, drawn by a seed, so many stacked."""

    about: str
    samples: Callable[[int, int], Array]
    trained: bool = False


def pictures(side: int) -> Callable[[int, int], Array]:
    """Drawn things, enlarged."""

    def samples(seed: int, count: int) -> Array:
        drawn, _ = images(seed, count)
        grown = [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in drawn]
        return planar(np.stack([np.asarray(one) for one in grown]))

    return samples


def glyphs(seed: int, count: int) -> Array:
    return planar(images(seed, count)[0])


def scenes(seed: int, count: int) -> Array:
    return planar(np.stack([scene(seed, number).pixels for number in range(count)]))


def texts(seed: int, count: int) -> Array:
    return np.random.default_rng(seed).integers(0, 4000, (count, 64))


def films(seed: int, count: int) -> Array:
    """Four frames of a thing that moves, float32[count, 4, 1, SIDE, SIDE]."""
    still = glyphs(seed, count)[:, :1]
    return np.stack([np.roll(still, 2 * step, -1) for step in range(4)], 1)


def shape(name: str) -> Any:
    """The net with random weights."""
    import _vision_nets as nets
    from torch import nn

    return {
        "resnet18": lambda: nets.resnet(nets.Basic, (2, 2, 2, 2)),
        "resnet50": lambda: nets.resnet(nets.Bottleneck, (3, 4, 6, 3)),
        "mobilenet_v3": nets.mobilenet_v3_small,
        "unet": nets.UNet,
        "yolo": lambda: nets.Yolo(16, 80, 320),
        "lstm": lambda: nets.Texts(nn.LSTM),
        "gru": lambda: nets.Texts(nn.GRU),
        "conv_lstm": nets.ConvLSTM,
        "glyphs": lambda: nets.glyph_cnn(len(CLASSES)),
        "scenes": lambda: nets.Yolo(WIDTH, len(THINGS), SCENE),
    }[name]()


def module(name: str) -> Any:
    """The same, with the weights that it was trained to where it was."""
    found = shape(name)
    if SOURCES[name].trained:
        from safetensors.torch import load_file

        found.load_state_dict(load_file(NETS / name / "model.safetensors"))
    return found


SOURCES = {
    "resnet18": Source("ResNet-18, 224 x 224", pictures(224)),
    "resnet50": Source("ResNet-50, 224 x 224", pictures(224)),
    "mobilenet_v3": Source("MobileNetV3 small, 224 x 224", pictures(224)),
    "unet": Source("U-Net with Resize, 128 x 128", pictures(128)),
    "yolo": Source("detector of YOLOv8n's widths, 320 x 320", pictures(320)),
    "glyphs": Source(f"trained classifier, {SIDE} x {SIDE}", glyphs, trained=True),
    "scenes": Source(f"trained detector, {SCENE} x {SCENE}", scenes, trained=True),
    "lstm": Source("LSTM both ways, 64 tokens", texts),
    "gru": Source("GRU both ways, 64 tokens", texts),
    "conv_lstm": Source(f"ConvLSTM, 4 frames of {SIDE} x {SIDE}", films),
}
