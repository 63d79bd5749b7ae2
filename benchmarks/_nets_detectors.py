"""Nets of coverage.py with tails, a loop or functions written by hand: detectors, refinement, an MLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from _nets import SEED, Feeds, Net, Traced, by_hand, scripted
from _nets_torch import backbone
from torch import Tensor, nn

_CLASSES = 4


class Yolo(nn.Module):
    """One scale of YOLOX's head (Ge et al. 2021): boxes as corners, scores by class."""

    def __init__(self) -> None:
        super().__init__()
        self.features = backbone()
        self.head = nn.Conv2d(64, 5 + _CLASSES, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.head(self.features(image))
        height, width = found.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows], -1).view(1, height * width, 2).float()
        flat = found.flatten(2).transpose(1, 2)
        middle, size = (flat[..., :2] + grid) * 8, torch.exp(flat[..., 2:4]) * 8
        boxes = torch.cat([middle - size / 2, middle + size / 2], -1)
        return boxes, (flat[..., 4:5].sigmoid() * flat[..., 5:].sigmoid()).transpose(1, 2)


class Ssd(nn.Module):
    """Two scales, priors, softmax over classes (Liu et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.smaller = backbone(), nn.Sequential(nn.Conv2d(64, 64, 3, 2, 1), nn.ReLU())
        self.places = nn.ModuleList(nn.Conv2d(64, 4 * 2, 3, padding=1) for _ in range(2))
        self.classes = nn.ModuleList(nn.Conv2d(64, 2 * _CLASSES, 3, padding=1) for _ in range(2))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        first = self.features(image)
        maps = [first, self.smaller(first)]
        places = [
            f(m).permute(0, 2, 3, 1).reshape(m.size(0), -1, 4) for f, m in zip(self.places, maps, strict=True)
        ]
        classes = [
            f(m).permute(0, 2, 3, 1).reshape(m.size(0), -1, _CLASSES)
            for f, m in zip(self.classes, maps, strict=True)
        ]
        place = torch.cat(places, 1)
        priors = torch.full_like(place, 0.5)
        middle = priors[..., :2] + place[..., :2] * 0.1 * priors[..., 2:]
        size = priors[..., 2:] * torch.exp(place[..., 2:] * 0.2)
        boxes = torch.cat([middle - size / 2, middle + size / 2], -1)
        return boxes, torch.cat(classes, 1).softmax(-1).transpose(1, 2)


class Proposals(nn.Module):
    """The first stage of Faster R-CNN (Ren et al. 2015): features, an anchor and an objectness each place."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = backbone(), nn.Conv2d(64, 5, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.features(image)
        found = self.head(maps).flatten(2)
        corner = found[:, :2].sigmoid() * image.size(2) * 0.5
        boxes = torch.cat([corner, corner + 4 + found[:, 2:4].sigmoid() * 16], 1).transpose(1, 2)
        return maps, boxes, found[:, 4:].sigmoid()


def tail(
    text: str, outputs: str, constants: dict[str, np.ndarray[Any, Any]]
) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """What puts nodes behind a model: they read its outputs by name."""

    def then(model: onnx.ModelProto) -> onnx.ModelProto:
        head = f'<ir_version: {model.ir_version}, opset_import: ["": {model.opset_import[0].version}]>'
        names = [output.name for output in model.graph.output]
        behind = onnx.parser.parse_model(
            f"{head} tail ({', '.join(f'float[] {name}' for name in names)}) => ({outputs}) {{ {text} }}"
        )
        del behind.graph.input[:]
        behind.graph.input.extend(model.graph.output)
        behind.graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
        )
        return onnx.compose.merge_models(
            model, behind, io_map=[(name, name) for name in names], prefix2="tail/"
        )

    return then


_CONSTANTS = {
    "most": np.int64([5]),
    "iou": np.float32([0.5]),
    "least": np.float32([0.001]),
    "wanted": np.int64([1, 2]),
    "ones": np.int64([1, 1]),
    "one": np.int64([1]),
    "zero": np.int64([0]),
}
_NMS = """
    selected = NonMaxSuppression(boxes, scores, most, iou, least)
    columns = Gather <axis = 1> (selected, wanted)
    class_row, box_row = Split <axis = 1> (columns, ones)
    box_index = Squeeze(box_row, one)
    class_index = Squeeze(class_row, one)
    flat = Squeeze(boxes, zero)
    kept = Gather(flat, box_index)
"""
_KEPT = "float[N, 4] kept, int64[N] class_index"
_RCNN = """
    scores = Reshape(objectness, minus)
    count = Shape(scores)
    k = Min(count, twenty)
    best, order = TopK(scores, k)
    all = Squeeze(boxes, zero)
    likely = Gather(all, order)
    likely_one = Unsqueeze(likely, zero)
    best_one = Unsqueeze(best, zero_one)
    proposed = NonMaxSuppression(likely_one, best_one, most, iou, least)
    rows = Gather <axis = 1> (proposed, two)
    rois = Gather(likely, rows)
    number = Shape <start = 0, end = 1> (rows)
    batch = ConstantOfShape <value = int64[1] {0}> (number)
    pooled = RoiAlign <output_height = 3, output_width = 3, sampling_ratio = 2, spatial_scale = 0.125>
        (maps, rois, batch)
    vector = Flatten(pooled)
    hidden = Gemm <transB = 1> (vector, first)
    active = Relu(hidden)
    logits = Gemm <transB = 1> (active, second)
    classes = Softmax <axis = -1> (logits)
    spread = Transpose <perm = [1, 0]> (classes)
    scores_one = Unsqueeze(spread, zero)
    rois_one = Unsqueeze(rois, zero)
    selected = NonMaxSuppression(rois_one, scores_one, most, iou, least)
    kept_rows = Gather <axis = 1> (selected, two)
    kept = Gather(rois, kept_rows)
"""


def _rcnn(model: onnx.ModelProto) -> onnx.ModelProto:
    rng = np.random.default_rng(SEED)
    constants = _CONSTANTS | {
        "minus": np.int64([-1]),
        "twenty": np.int64([20]),
        "zero_one": np.int64([0, 1]),
        "two": np.int64(2),
        "first": _normal(rng, 32, 576),
        "second": _normal(rng, _CLASSES, 32),
    }
    return tail(_RCNN, "int64[N, 3] selected, float[N, 4] kept", constants)(model)


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (rng.standard_normal(shape) * 0.1).astype(np.float32)


_LOOP = """
<ir_version: 8, opset_import: ["": 17]>
steps (float[N, 16] x) => (float[N, 16] y, float[T, N, 16] states) {
  y, states = Loop (trips, go, x) <body = step (int64 i, bool c, float[N, 16] before)
      => (bool d, float[N, 16] after, float[N, 16] state) {
      d = Identity(c)
      product = MatMul(before, weight)
      sum = Add(product, bias)
      active = Tanh(sum)
      after = Add(before, active)
      state = Identity(after)
  }>
}
"""
_FUNCTIONS = """
<ir_version: 9, opset_import: ["": 18, "local": 1]>
blocks (float[N, 16] x) => (float[N, 16] y) {
  a = local.Block <epsilon = 0.00001> (x, w0, g)
  b = local.Block <epsilon = 0.00001> (a, w1, g)
  c = local.Block <epsilon = 0.001> (b, w2, g)
  y = local.Gelu(c)
}
<domain: "local", opset_import: ["": 18, "local": 1]>
Block <epsilon> (x, w, g) => (y) {
  axes = Constant <value = int64[1] {-1}> ()
  mean = ReduceMean <keepdims = 1> (x, axes)
  centred = Sub(x, mean)
  squares = Mul(centred, centred)
  variance = ReduceMean <keepdims = 1> (squares, axes)
  e = Constant <value_float: float = @epsilon> ()
  safe = Add(variance, e)
  deviation = Sqrt(safe)
  normed = Div(centred, deviation)
  scaled = Mul(normed, g)
  product = MatMul(scaled, w)
  active = local.Gelu(product)
  y = Add(x, active)
}
<domain: "local", opset_import: ["": 18]>
Gelu (x) => (y) {
  root = Constant <value_float: float = 1.4142135> ()
  one = Constant <value_float: float = 1.0> ()
  half = Constant <value_float: float = 0.5> ()
  scaled = Div(x, root)
  erf = Erf(scaled)
  shifted = Add(erf, one)
  product = Mul(x, shifted)
  y = Mul(product, half)
}
"""


def _parsed(
    text: str, weights: Callable[[np.random.Generator], dict[str, np.ndarray[Any, Any]]]
) -> Callable[[], onnx.ModelProto]:
    def model() -> onnx.ModelProto:
        found = onnx.parser.parse_model(text)
        drawn = weights(np.random.default_rng(SEED))
        found.graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in drawn.items()
        )
        return found

    return model


def _rows() -> tuple[Feeds, Feeds]:
    rng = np.random.default_rng(SEED)
    return {"x": _normal(rng, 2, 16) * 10}, {"x": _normal(rng, 5, 16) * 10}


def _image(module: Callable[[], nn.Module]) -> Callable[[], Traced]:
    return lambda: Traced(
        module(), {"image": torch.randn(1, 3, 64, 64)}, {"image": torch.randn(1, 3, 96, 96)}
    )


NETS: tuple[Net, ...] = (
    scripted("yolo", "YOLO", 13, _image(Yolo), tail(_NMS, _KEPT, _CONSTANTS), outputs=["boxes", "scores"]),
    scripted("ssd", "SSD", 14, _image(Ssd), tail(_NMS, _KEPT, _CONSTANTS), outputs=["boxes", "scores"]),
    scripted(
        "faster-rcnn", "Faster R-CNN", 17, _image(Proposals), _rcnn, outputs=["maps", "boxes", "objectness"]
    ),
    by_hand(
        "loop",
        "Loop",
        "by hand, opset 17",
        _parsed(
            _LOOP,
            lambda rng: {
                "trips": np.int64(6),
                "go": np.array(True),
                "weight": _normal(rng, 16, 16),
                "bias": _normal(rng, 16),
            },
        ),
        _rows,
    ),
    by_hand(
        "functions",
        "MLP of local functions",
        "by hand, opset 18",
        _parsed(
            _FUNCTIONS,
            lambda rng: {
                "w0": _normal(rng, 16, 16),
                "w1": _normal(rng, 16, 16),
                "w2": _normal(rng, 16, 16),
                "g": _normal(rng, 16),
            },
        ),
        _rows,
    ),
)
