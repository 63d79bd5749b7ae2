"""The nets of vision.py as torch modules: published shapes, and two small ones that are trained here.

ResNet (He et al. 2016), MobileNetV3 (Howard et al. 2019), U-Net (Ronneberger et al. 2015) with Resize for its
transposed convolutions, and a detector in the manner of YOLOv8 (strides 8, 16 and 32, boxes decoded in the
graph, nothing after them).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)


def conv(
    inner: int, outer: int, size: int, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Convolution that keeps the extent over `stride`, batch norm and, unless None, an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inner, outer, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outer),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


class Basic(nn.Module):
    """ResNet's block of two convolutions."""

    expansion = 1

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(inner, width, 3, stride), conv(width, width, 3, act=None))
        self.skip = conv(inner, width, 1, stride, act=None) if stride > 1 or inner != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class Bottleneck(nn.Module):
    """ResNet's block of three."""

    expansion = 4

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        outer = width * self.expansion
        self.body = nn.Sequential(
            conv(inner, width, 1), conv(width, width, 3, stride), conv(width, outer, 1, act=None)
        )
        self.skip = conv(inner, outer, 1, stride, act=None) if stride > 1 or inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def resnet(block: type[Basic] | type[Bottleneck], counts: Sequence[int], classes: int = 1000) -> nn.Module:
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inner = 64
    for stage, count in enumerate(counts):
        width = 64 * 2**stage
        for number in range(count):
            layers.append(block(inner, width, 2 if stage and not number else 1))
            inner = width * block.expansion
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        inner = _eighths(width / 4)
        self.down, self.up = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """MobileNetV3's block: wider, depthwise, attention over channels, narrow again."""

    def __init__(
        self,
        inner: int,
        size: int,
        wide: int,
        outer: int,
        *,
        squeeze: bool,
        act: type[nn.Module],
        stride: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(inner, wide, 1, act=act)] if wide != inner else []
        layers.append(conv(wide, wide, size, stride, wide, act))
        layers += [SqueezeExcite(wide)] if squeeze else []
        self.body = nn.Sequential(*layers, conv(wide, outer, 1, act=None))
        self.adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x if self.adds else self.body(x)


R, H = nn.ReLU, nn.Hardswish
# Kernel, expanded width, width, whether squeezed, activation, stride: table 2 of the paper.
SMALL = (
    *((3, 16, 16, True, R, 2), (3, 72, 24, False, R, 2), (3, 88, 24, False, R, 1), (5, 96, 40, True, H, 2)),
    *((5, 240, 40, True, H, 1), (5, 240, 40, True, H, 1), (5, 120, 48, True, H, 1), (5, 144, 48, True, H, 1)),
    *((5, 288, 96, True, H, 2), (5, 576, 96, True, H, 1), (5, 576, 96, True, H, 1)),
)


def mobilenet_v3_small(classes: int = 1000) -> nn.Module:
    layers: list[nn.Module] = [conv(3, 16, 3, 2, act=H)]
    inner = 16
    for size, wide, outer, squeeze, act, stride in SMALL:
        layers.append(Inverted(inner, size, wide, outer, squeeze=squeeze, act=act, stride=stride))
        inner = outer
    layers += [conv(inner, 576, 1, act=H), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, classes))


def glyph_cnn(classes: int) -> nn.Module:
    """Residual blocks, depthwise ones with attention over channels, ReLU and HardSwish: 0.43 M parameters."""
    return nn.Sequential(
        conv(3, 24, 3, 2, act=H),
        Basic(24, 32, 1),
        Inverted(32, 3, 96, 48, squeeze=False, act=R, stride=2),
        Inverted(48, 3, 144, 48, squeeze=True, act=H),
        Basic(48, 96, 2),
        Inverted(96, 5, 288, 96, squeeze=True, act=H),
        Inverted(96, 5, 288, 96, squeeze=True, act=H),
        conv(96, 288, 1, act=H),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(288, classes),
    )


class UNet(nn.Module):
    """A mask of logits as large as the picture; goes up by Resize, as exports of newer ones do."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128), classes: int = 4) -> None:
        super().__init__()

        def twice(inner: int, outer: int) -> nn.Module:
            return nn.Sequential(conv(inner, outer, 3), conv(outer, outer, 3))

        self.down = nn.ModuleList(twice(a, b) for a, b in itertools.pairwise((3, *widths)))
        self.up = nn.ModuleList(twice(a + b, a) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            seen.append(x)
        for block, before in zip(reversed(self.up), reversed(seen[:-1]), strict=True):
            x = block(torch.cat([before, F.interpolate(x, scale_factor=2.0, mode="bilinear")], 1))
        return self.head(x)


class Split(nn.Module):
    """YOLOv8's C2f: half goes through `count` pairs of convolutions, and all that is seen is joined."""

    def __init__(self, inner: int, outer: int, count: int = 1, *, adds: bool) -> None:
        super().__init__()
        half = outer // 2
        self.half, self.adds = half, adds
        self.enter = conv(inner, outer, 1, act=nn.SiLU)
        self.pairs = nn.ModuleList(
            nn.Sequential(conv(half, half, 3, act=nn.SiLU), conv(half, half, 3, act=nn.SiLU))
            for _ in range(count)
        )
        self.leave = conv((2 + count) * half, outer, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        seen = list(self.enter(x).split(self.half, 1))
        for pair in self.pairs:
            further = pair(seen[-1])
            seen.append(seen[-1] + further if self.adds else further)
        return self.leave(torch.cat(seen, 1))


class Pyramid(nn.Module):
    """SPPF: the same maximum three times over, joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = conv(width, width // 2, 1, act=nn.SiLU)
        self.leave = conv(2 * width, width, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.enter(x)]
        for _ in range(3):
            seen.append(F.max_pool2d(seen[-1], 5, 1, 2))
        return self.leave(torch.cat(seen, 1))


class Yolo(nn.Module):
    """Pictures float32[N, 3, side, side] to float32[N, cells, 4 + classes]: (left, top, right, bottom) in
    pixels, and scores of classes from 0 to 1. While it trains, scores are logits."""

    centers: Tensor
    strides: Tensor

    def __init__(self, width: int, classes: int, side: int) -> None:
        super().__init__()
        w1, w2, w3, w4, w5 = (width * 2**n for n in range(5))
        act = nn.SiLU
        self.stem = nn.Sequential(
            conv(3, w1, 3, 2, act=act), conv(w1, w2, 3, 2, act=act), Split(w2, w2, adds=True)
        )
        self.third = nn.Sequential(conv(w2, w3, 3, 2, act=act), Split(w3, w3, 2, adds=True))
        self.fourth = nn.Sequential(conv(w3, w4, 3, 2, act=act), Split(w4, w4, 2, adds=True))
        self.fifth = nn.Sequential(conv(w4, w5, 3, 2, act=act), Split(w5, w5, adds=True), Pyramid(w5))
        self.up4, self.up3 = Split(w5 + w4, w4, adds=False), Split(w4 + w3, w3, adds=False)
        self.down3, self.down4 = conv(w3, w3, 3, 2, act=act), conv(w4, w4, 3, 2, act=act)
        self.out4, self.out5 = Split(w4 + w3, w4, adds=False), Split(w5 + w4, w5, adds=False)
        self.boxes = nn.ModuleList(self._head(w, w3, 4) for w in (w3, w4, w5))
        self.scores = nn.ModuleList(self._head(w, w3, classes) for w in (w3, w4, w5))
        grids = [(torch.arange(side // stride) + 0.5) * stride for stride in STRIDES]
        self.register_buffer("centers", torch.cat([torch.cartesian_prod(g, g).flip(1) for g in grids]), False)
        per_cell = [torch.full((len(grid) ** 2, 1), float(s)) for grid, s in zip(grids, STRIDES, strict=True)]
        self.register_buffer("strides", torch.cat(per_cell), False)

    @staticmethod
    def _head(inner: int, width: int, outer: int) -> nn.Module:
        return nn.Sequential(conv(inner, width, 3, act=nn.SiLU), nn.Conv2d(width, outer, 1))

    def forward(self, x: Tensor) -> Tensor:
        third = self.third(self.stem(x))
        fourth = self.fourth(third)
        fifth = self.fifth(fourth)
        four = self.up4(torch.cat([F.interpolate(fifth, scale_factor=2.0), fourth], 1))
        three = self.up3(torch.cat([F.interpolate(four, scale_factor=2.0), third], 1))
        four = self.out4(torch.cat([self.down3(three), four], 1))
        five = self.out5(torch.cat([self.down4(four), fifth], 1))

        def cells(heads: nn.ModuleList) -> Tensor:
            found = [head(level).flatten(2) for head, level in zip(heads, (three, four, five), strict=True)]
            return torch.cat(found, 2).transpose(1, 2)

        away, scores = F.softplus(cells(self.boxes)) * self.strides, cells(self.scores)
        boxes = torch.cat([self.centers - away[..., :2], self.centers + away[..., 2:]], -1)
        return torch.cat([boxes, scores if self.training else scores.sigmoid()], -1)


class Texts(nn.Module):
    """Tokens int64[N, S] to logits of classes by a recurrent net's last state."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], vocabulary: int = 4000, width: int = 128) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.cell = cell(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 8)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.cell(self.table(ids))[0].mean(1))


class ConvLSTM(nn.Module):
    """Four frames float32[N, 4, 1, H, W] to the next (Shi et al. 2015)."""

    def __init__(self, width: int = 16, frames: int = 4) -> None:
        super().__init__()
        self.width, self.frames = width, frames
        self.gates = nn.Conv2d(1 + width, 4 * width, 3, padding=1)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        state = frames.new_zeros(frames.shape[0], self.width, *frames.shape[3:])
        memory = state
        for step in range(self.frames):
            enter, forget, leave, new = self.gates(torch.cat([frames[:, step], state], 1)).chunk(4, 1)
            memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
            state = leave.sigmoid() * memory.tanh()
        return self.head(state)


def _eighths(width: float) -> int:
    """Rounded to a multiple of eight that is not less than nine tenths of it."""
    found = max(8, int(width + 4) // 8 * 8)
    return found if found >= 0.9 * width else found + 8
