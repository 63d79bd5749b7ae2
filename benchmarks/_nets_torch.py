"""Nets of coverage.py that are modules of torch, written out here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import onnx
import torch
from _nets import Net, Traced, dynamo, scripted
from torch import Tensor, nn
from torch.nn import functional as F


def _stack(inputs: int, outputs: int, stride: int = 1, groups: int = 1, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class Residual(nn.Module):
    """ResNet's basic block (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_stack(inputs, outputs, stride), nn.ReLU(), *_stack(outputs, outputs))
        same = (inputs, stride) == (outputs, 1)
        self.shortcut = nn.Identity() if same else nn.Sequential(*_stack(inputs, outputs, stride, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def backbone() -> nn.Sequential:
    """Feature maps of 64 channels at an eighth of the image's sides."""
    stem = [*_stack(3, 16, 2, kernel=7), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, Residual(16, 16, 1), Residual(16, 32, 1), Residual(32, 64, 2))


class ResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.classify = backbone(), nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(torch.flatten(F.adaptive_avg_pool2d(self.features(image), 1), 1))


class Inverted(nn.Module):
    """MobileNetV3's block (Howard et al. 2019): expansion, depthwise convolution, squeeze and excitation."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(*_stack(width, inner, kernel=1), nn.Hardswish())
        self.depthwise = nn.Sequential(*_stack(inner, inner, groups=inner, kernel=5), nn.Hardswish())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inner, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, inner, 1),
            nn.Hardsigmoid(),
        )
        self.project = nn.Sequential(*_stack(inner, width, kernel=1))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.depthwise(self.expand(x))
        return x + self.project(inner * self.squeeze(inner))


class MobileNetV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_stack(3, 16, 2), nn.Hardswish(), Inverted(16, 48), Inverted(16, 64))
        self.classify = nn.Sequential(nn.Linear(16, 64), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.features(image).mean((2, 3)))


class UNet(nn.Module):
    """Ronneberger et al. 2015; upwards by Resize to the sizes of what it is joined with."""

    def __init__(self, mode: str = "bilinear") -> None:
        super().__init__()
        widths = (3, 8, 16, 32)
        self.mode = mode
        self.down = nn.ModuleList(
            nn.Sequential(*_stack(a, b), nn.ReLU(), *_stack(b, b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(nn.Sequential(*_stack(b + a, a), nn.ReLU()) for a, b in ((16, 32), (8, 16)))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        kept: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for level, block in enumerate(self.up):
            beside = kept[-2 - level]
            x = block(torch.cat([F.interpolate(x, size=beside.shape[2:], mode=self.mode), beside], 1))
        return self.head(x)


class Doubling(nn.Module):
    """An autoencoder that goes up by factors: Upsample in old opsets, ConvTranspose, a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(*_stack(3, 16, 2), nn.LeakyReLU(0.1), *_stack(16, 32, 2), nn.LeakyReLU(0.1))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_stack(32, 16),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(16, 16, 2, 2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(16, 12, 3),
            nn.PixelShuffle(2),
            nn.AvgPool2d(2),
        )

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.up(self.down(image)))


class Shuffle(nn.Module):
    """ShuffleNetV2's units (Ma et al. 2018): channels are split, joined and interleaved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_stack(3, 16, 2), nn.ReLU())
        self.units = nn.ModuleList(
            nn.Sequential(
                *_stack(8, 8, kernel=1),
                nn.ReLU(),
                *_stack(8, 8, groups=8),
                *_stack(8, 8, kernel=1),
                nn.ReLU(),
            )
            for _ in range(3)
        )
        self.classify = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for unit in self.units:
            left, right = x.chunk(2, 1)
            x = torch.cat([left, unit(right)], 1)
            batch, channels, height, width = x.shape
            x = (
                x.view(batch, 2, channels // 2, height, width)
                .transpose(1, 2)
                .reshape(batch, channels, height, width)
            )
        return self.classify(x.mean((2, 3)))


class Dense(nn.Module):
    """DenseNet's block (Huang et al. 2017): norm before convolution, and a Concat of everything before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(16 + 8 * n), nn.ReLU(), nn.Conv2d(16 + 8 * n, 8, 3, padding=1))
            for n in range(4)
        )
        self.classify = nn.Linear(48, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = [self.stem(image)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.classify(torch.cat(features, 1).mean((2, 3)))


class TextClassifier(nn.Module):
    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embed = nn.Embedding(512, 32)
        self.layers = kind(32, 48, num_layers=2, batch_first=True, bidirectional=True)
        self.classify = nn.Linear(96, 5)

    def forward(self, ids: Tensor) -> Tensor:
        states, _ = self.layers(self.embed(ids))
        return self.classify(states.max(1).values)


class ConvLstm(nn.Module):
    """Shi et al. 2015: the steps are a loop over frames."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(3 + 8, 4 * 8, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        hidden = torch.zeros(frames.size(0), 8, frames.size(3), frames.size(4))
        cell = hidden
        for step in range(frames.size(1)):
            gates = self.gates(torch.cat([frames[:, step], hidden], 1))
            take, forget, give, new = gates.chunk(4, 1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(take) * torch.tanh(new)
            hidden = torch.sigmoid(give) * torch.tanh(cell)
        return hidden


class Tcn(nn.Module):
    """Bai et al. 2018: dilated causal convolutions, padded on the left and cut."""

    def __init__(self) -> None:
        super().__init__()
        parametrized = torch.nn.utils.parametrizations.weight_norm
        self.layers = nn.ModuleList(
            parametrized(nn.Conv1d(16, 16, 3, padding=2 * 2**n, dilation=2**n)) for n in range(3)
        )
        self.pads = [2 * 2**n for n in range(3)]
        self.enter, self.leave = nn.Conv1d(4, 16, 1), nn.Linear(16, 3)

    def forward(self, signal: Tensor) -> Tensor:
        x = self.enter(signal)
        for layer, pad in zip(self.layers, self.pads, strict=True):
            x = x + F.relu(layer(x)[:, :, :-pad])
        return self.leave(x.transpose(1, 2))


class Speech(nn.Module):
    """Silero-like voice activity: one net a sampling rate, chosen by an If on it, with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv1d(1, 16, 32, 16), nn.Conv1d(1, 16, 16, 8)
        self.cell = nn.LSTM(16, 16)
        self.decide = nn.Linear(16, 1)

    def forward(self, sound: Tensor, state: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        if bool(rate == 16000):
            x = torch.relu(self.wide(sound.unsqueeze(1)))
        else:
            x = torch.relu(self.narrow(sound.unsqueeze(1)))
        x, (hidden, cell) = self.cell(x.permute(2, 0, 1), (state[0:1], state[1:2]))
        return torch.sigmoid(self.decide(x[-1])), torch.cat([hidden, cell])


class Fixed(nn.Module):
    """The same with its rate known: the If's condition is a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.speech = Speech()
        self.rate: int = 16000

    def forward(self, sound: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.speech(sound, state, torch.tensor(self.rate))


class Vits(nn.Module):
    """A VITS-like sampler (Kim et al. 2021): durations, noise, a flow of couplings, an upsampling decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encode = nn.Embedding(64, 32), nn.Conv1d(32, 64, 3, padding=1)
        self.flows = nn.ModuleList(nn.Conv1d(16, 32, 3, padding=1) for _ in range(3))
        self.up = nn.ModuleList(nn.ConvTranspose1d(a, b, 4, 2, 1) for a, b in ((32, 16), (16, 8)))
        self.leave = nn.Conv1d(8, 1, 7, padding=3)

    def forward(self, ids: Tensor, noise_scale: Tensor) -> Tensor:
        mean, scale = self.encode(self.embed(ids).transpose(1, 2)).split(32, 1)
        x = mean + torch.randn_like(mean) * torch.exp(torch.tanh(scale)) * noise_scale
        for flow in self.flows:
            kept, changed = x.flip(1).split(16, 1)
            shift, logs = flow(kept).chunk(2, 1)
            x = torch.cat([kept, (changed - shift) * torch.exp(-torch.tanh(logs))], 1)
        for layer in self.up:
            x = layer(F.leaky_relu(x, 0.1))
        return torch.tanh(self.leave(x))


class Iterated(nn.Module):
    """A refinement of a fixed number of steps, which a scripted module writes as a Loop."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = x + torch.tanh(self.step(x))
        return x


def _of_images(module: Callable[[], nn.Module], small: int = 64, large: int = 96) -> Callable[[], Traced]:
    def make() -> Traced:
        return Traced(
            module(), {"image": torch.randn(1, 3, small, small)}, {"image": torch.randn(1, 3, large, large)}
        )

    return make


def _of(
    module: Callable[[], nn.Module], name: str, small: Callable[[], Tensor], large: Callable[[], Tensor]
) -> Callable[[], Traced]:
    return lambda: Traced(module(), {name: small()}, {name: large()})


def _ids(batch: int, length: int) -> Callable[[], Tensor]:
    return lambda: torch.randint(0, 64, (batch, length))


def _normal(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape)


def _speech(module: Callable[[], nn.Module], rate: dict[str, Tensor]) -> Callable[[], Traced]:
    def make() -> Traced:
        small = {"sound": torch.randn(2, 512), "state": torch.randn(2, 2, 16)}
        large = {"sound": torch.randn(3, 768), "state": torch.randn(2, 3, 16)}
        return Traced(torch.jit.script(module()), small | rate, large | rate)

    return make


def _vits() -> Traced:
    scale = {"noise_scale": torch.tensor(0.667)}
    return Traced(Vits(), {"ids": _ids(2, 12)()} | scale, {"ids": _ids(3, 20)()} | scale)


def _seeded(model: onnx.ModelProto) -> onnx.ModelProto:
    """What draws numbers draws the same ones in each session."""
    for node in model.graph.node:
        if node.op_type == "RandomNormalLike":
            node.attribute.append(onnx.helper.make_attribute("seed", 7.0))
    return model


NETS: tuple[Net, ...] = (
    scripted("resnet18", "ResNet", 13, _of_images(ResNet18), norms=True),
    scripted("mobilenet-v3", "MobileNet", 14, _of_images(MobileNetV3)),
    dynamo("unet", "UNet", 18, _of_images(UNet)),
    scripted("unet-nearest", "UNet", 12, _of_images(lambda: UNet("nearest"))),
    scripted("autoencoder", "autoencoder", 9, _of_images(Doubling)),
    scripted("shufflenet", "ShuffleNet", 11, _of_images(Shuffle)),
    dynamo("densenet", "DenseNet", 18, _of_images(Dense)),
    scripted("lstm-text", "LSTM", 14, _of(lambda: TextClassifier(nn.LSTM), "ids", _ids(2, 12), _ids(3, 20))),
    scripted("gru-text", "GRU", 15, _of(lambda: TextClassifier(nn.GRU), "ids", _ids(2, 12), _ids(3, 20))),
    scripted(
        "conv-lstm",
        "ConvLSTM",
        16,
        _of(
            lambda: torch.jit.script(ConvLstm()), "frames", _normal(2, 5, 3, 16, 16), _normal(3, 7, 3, 24, 24)
        ),
    ),
    scripted(
        "conv-lstm-5",
        "ConvLSTM",
        13,
        _of(ConvLstm, "frames", _normal(2, 5, 3, 16, 16), _normal(3, 5, 3, 24, 24)),
    ),
    dynamo("tcn", "TCN", 18, _of(Tcn, "signal", _normal(2, 4, 40), _normal(3, 4, 64))),
    scripted("speech-if", "Silero-like", 16, _speech(Speech, {"rate": torch.tensor(16000)})),
    scripted("speech-16k", "Silero-like", 16, _speech(Fixed, {})),
    scripted("vits", "VITS-like", 15, _vits, _seeded),
    scripted(
        "iterated", "Loop", 17, _of(lambda: torch.jit.script(Iterated()), "x", _normal(2, 16), _normal(5, 16))
    ),
)
