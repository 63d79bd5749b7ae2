"""Images that a seed draws: one of 26 things, or a scene of shapes and glyphs with their boxes.

Nothing is downloaded, and no font is asked for: shapes are polygons, glyphs are bitmaps of five by seven,
textures and noises are formulas. Image number i of a seed is the same however many are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.float32]]
Rng = np.random.Generator
Polygon = np.ndarray[Any, np.dtype[np.float64]]

SIDE = 48
"""Pixels of an image with one thing on it."""
SCENE = 96
"""Pixels of a scene."""
MOST = 4
"""Things in a scene."""
_FINER = 3
"""Masks are drawn larger by it: Pillow's polygons have no smooth edges."""

_BITMAPS = {
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "Q": "01110 10001 10001 10001 10101 10010 01101",
    "G": "01110 10001 10000 10111 10001 10001 01110",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "5": "11111 10000 11110 00001 00001 10001 01110",
}


def _around(corners: int, radius: float = 1.0, at: tuple[float, float] = (0.0, 0.0)) -> Polygon:
    angles = 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1) + at


def _star() -> Polygon:
    return _around(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]


def _cross(arm: float = 0.32) -> Polygon:
    quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
    turns = (np.array([[0.0, -1.0], [1.0, 0.0]]), quarter)
    found = [quarter]
    for _ in range(3):
        found.append(found[-1] @ turns[0].T)
    return np.concatenate(found)


def _glyph(bitmap: str) -> list[tuple[Polygon, int]]:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]) - (2.5, 3.5)
    rows = bitmap.split()
    return [
        ((square + np.array([x, y])) / 3.5, 255)
        for y, row in enumerate(rows)
        for x, bit in enumerate(row)
        if bit == "1"
    ]


OUTLINES: dict[str, list[tuple[Polygon, int]]] = {
    "circle": [(_around(48), 255)],
    "triangle": [(_around(3), 255)],
    "square": [(_around(4), 255)],
    "pentagon": [(_around(5), 255)],
    "star": [(_star(), 255)],
    "ring": [(_around(48), 255), (_around(48, 0.55), 0)],
    "cross": [(_cross(), 255)],
    "crescent": [(_around(48), 255), (_around(48, 0.85, (0.45, 0.0)), 0)],
    **{name: _glyph(bitmap) for name, bitmap in _BITMAPS.items()},
}
"""Polygons in the unit circle, each drawn over those before it: 255 is there, 0 is a hole."""


def _grid(side: int, rng: Rng) -> tuple[Mask, Mask]:
    """Turned coordinates in periods, three to seven of them a side."""
    y, x = np.mgrid[:side, :side] / side * rng.uniform(3, 7)
    angle = rng.uniform(0, np.pi)
    turned = (np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x)
    phases = rng.uniform(0, 1, 2)
    return (turned[0] + phases[0]).astype(np.float32), (turned[1] + phases[1]).astype(np.float32)


def _wave(x: Mask) -> Mask:
    return 0.5 + 0.5 * np.sin(2 * np.pi * x)


def _stripes(side: int, rng: Rng) -> Mask:
    return _wave(_grid(side, rng)[0])


def _checker(side: int, rng: Rng) -> Mask:
    x, y = _grid(side, rng)
    return ((np.floor(2 * x) + np.floor(2 * y)) % 2).astype(np.float32)


def _dots(side: int, rng: Rng) -> Mask:
    x, y = _grid(side, rng)
    return ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.09).astype(np.float32)


def _waves(side: int, rng: Rng) -> Mask:
    x, y = _grid(side, rng)
    return _wave(x + 0.25 * np.sin(2 * np.pi * y))


def _bricks(side: int, rng: Rng) -> Mask:
    x, y = _grid(side, rng)
    shifted = x / 2 + 0.5 * (np.floor(y) % 2)
    return ((shifted % 1 > 0.12) & (y % 1 > 0.2)).astype(np.float32)


def _ripples(side: int, rng: Rng) -> Mask:
    y, x = np.mgrid[:side, :side] / side - rng.uniform(0.2, 0.8, (2, 1, 1))
    return _wave((np.hypot(x, y) * rng.uniform(5, 10)).astype(np.float32))


def _smooth(height: int, width: int, side: int, rng: Rng) -> Mask:
    coarse = Image.fromarray(rng.uniform(0, 1, (height, width)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)), 0, 1)


def _grain(side: int, rng: Rng) -> Mask:
    return rng.uniform(0, 1, (side, side)).astype(np.float32)


def _blobs(side: int, rng: Rng) -> Mask:
    return _smooth(*rng.integers(6, 12, 2), side, rng)


def _streaks(side: int, rng: Rng) -> Mask:
    sizes = (int(rng.integers(3, 7)), side)
    return _smooth(*(sizes if rng.integers(2) else sizes[::-1]), side, rng)


def _specks(side: int, rng: Rng) -> Mask:
    return (rng.uniform(0, 1, (side, side)) < rng.uniform(0.05, 0.15)).astype(np.float32)


TEXTURES: dict[str, Callable[[int, Rng], Mask]] = {
    "stripes": _stripes,
    "checker": _checker,
    "dots": _dots,
    "waves": _waves,
    "bricks": _bricks,
    "ripples": _ripples,
    "grain": _grain,
    "blobs": _blobs,
    "streaks": _streaks,
    "specks": _specks,
}
CLASSES = (*OUTLINES, *TEXTURES)
THINGS = tuple(OUTLINES)[:12]
"""What scenes are made of."""


@dataclass(frozen=True)
class Scene:
    """`pixels` uint8[SCENE, SCENE, 3]; `boxes` float32[N, 4] in pixels, (left, top, right, bottom); `labels`
    int64[N], indices of THINGS."""

    pixels: Pixels
    boxes: np.ndarray[Any, np.dtype[np.float32]]
    labels: np.ndarray[Any, np.dtype[np.int64]]


def image(seed: int, number: int) -> tuple[Pixels, int]:
    """Image `number` of a seed, uint8[SIDE, SIDE, 3], and which of CLASSES is on it."""
    rng = np.random.default_rng((seed, number))
    label = int(rng.integers(len(CLASSES)))
    name = CLASSES[label]
    canvas = _background(SIDE, rng)
    if name in OUTLINES:
        radius = rng.uniform(0.2, 0.42) * SIDE
        mask = _outline(name, SIDE, radius, rng.uniform(radius, SIDE - radius, 2), rng)
    else:
        mask = TEXTURES[name](SIDE, rng)
    canvas = _painted(canvas, mask, rng.uniform(25, 130), rng)
    return _weathered(_cluttered(canvas, rng), rng), label


def images(seed: int, count: int) -> tuple[Pixels, np.ndarray[Any, np.dtype[np.int64]]]:
    """The first `count` images of a seed, uint8[count, SIDE, SIDE, 3], and their labels."""
    drawn = [image(seed, number) for number in range(count)]
    return np.stack([pixels for pixels, _ in drawn]), np.array([label for _, label in drawn])


def scene(seed: int, number: int) -> Scene:
    """Scene `number` of a seed: one to MOST things apart from each other on a faint texture."""
    rng = np.random.default_rng((seed, number))
    canvas = _background(SCENE, rng)
    texture = TEXTURES[list(TEXTURES)[int(rng.integers(len(TEXTURES)))]](SCENE, rng)
    canvas = _painted(canvas, texture, rng.uniform(0, 40), rng)
    boxes: list[tuple[float, ...]] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, MOST + 1))):
        label, radius = int(rng.integers(len(THINGS))), rng.uniform(0.09, 0.24) * SCENE
        mask = _outline(THINGS[label], SCENE, radius, rng.uniform(radius, SCENE - radius, 2), rng)
        box = _extent(mask)
        if any(_touch(box, other) for other in boxes):
            continue
        canvas = _painted(canvas, mask, rng.uniform(50, 140), rng)
        boxes.append(box)
        labels.append(label)
    pixels = _weathered(canvas, rng)
    return Scene(pixels, np.array(boxes, np.float32), np.array(labels, np.int64))


def planar(pixels: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
    """uint8[N, H, W, 3] as nets read it: float32[N, 3, H, W] around 0, in units of 64 grey levels."""
    return np.ascontiguousarray((pixels.astype(np.float32) - 128.0).transpose(0, 3, 1, 2) / 64.0)


def _background(side: int, rng: Rng) -> Mask:
    """A colour that fades into another, float32[side, side, 3]."""
    ends = rng.uniform(40, 215, (2, 3)).astype(np.float32)
    ends[1] = 0.6 * ends[0] + 0.4 * ends[1]
    y, x = np.mgrid[:side, :side] / side
    angle = rng.uniform(0, 2 * np.pi)
    along = np.clip(0.5 + np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5), 0, 1).astype(np.float32)
    mixed: Mask = ends[0] + along[..., None] * (ends[1] - ends[0])
    return mixed


def _outline(name: str, side: int, radius: float, at: Mask, rng: Rng) -> Mask:
    """How much of each pixel a thing covers, turned a little where it is a glyph, and anyhow where not."""
    angle = rng.uniform(-0.35, 0.35) if name in _BITMAPS else rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag(rng.uniform(0.8, 1.0, 2))
    drawn = Image.new("L", (side * _FINER, side * _FINER))
    draw = ImageDraw.Draw(drawn)
    for polygon, fill in OUTLINES[name]:
        points = (polygon @ turn.T * radius + at) * _FINER
        draw.polygon([tuple(point) for point in points], fill=fill)
    return np.asarray(drawn.reduce(_FINER), np.float32) / 255


def _painted(canvas: Mask, mask: Mask, contrast: float, rng: Rng) -> Mask:
    """The canvas with a colour that differs from its mean by `contrast` grey levels where the mask is 1."""
    away = rng.normal(size=3)
    away *= contrast / np.sqrt(np.mean(away**2))
    mean = canvas.mean((0, 1))
    color = np.where(np.abs(mean + away - 128) <= np.abs(mean - away - 128), mean + away, mean - away)
    mixed: Mask = canvas + mask[..., None] * (color.astype(np.float32) - canvas)
    return mixed


def _cluttered(canvas: Mask, rng: Rng) -> Mask:
    """Up to three strokes across it."""
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(4))):
        ends = rng.uniform(0, canvas.shape[0], 4)
        color = tuple(int(one) for one in rng.integers(0, 256, 3))
        draw.line(list(ends), fill=color, width=int(rng.integers(1, 4)))
    return np.asarray(picture, np.float32)


def _weathered(canvas: Mask, rng: Rng) -> Pixels:
    """Out of focus by up to a pixel, and grained."""
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1)))
    grained = np.asarray(picture, np.float32) + rng.normal(0, rng.uniform(2, 28), canvas.shape)
    return np.clip(grained, 0, 255).astype(np.uint8)


def _extent(mask: Mask) -> tuple[float, ...]:
    rows, columns = (np.flatnonzero((mask > 0.5).any(axis)) for axis in (1, 0))
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _touch(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[axis] < other[axis + 2] and other[axis] < one[axis + 2] for axis in (0, 1))
