"""What a net of coverage.py is, and how torch's two exporters write one to a file."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

SEED = 20261128
"""Weights are drawn from it: no net here has learned anything."""
Feeds = dict[str, np.ndarray[Any, Any]]
Then = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True)
class Traced:
    """A module and two sets of inputs, by name: the axes on which they differ are the ones that vary."""

    module: torch.nn.Module
    small: dict[str, torch.Tensor]
    large: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Net:
    """An export: `make` writes model.onnx into a folder and gives two legal calls of different sizes."""

    name: str
    family: str
    how: str
    make: Callable[[Path], tuple[Feeds, Feeds]] = field(repr=False)


def dynamo(name: str, family: str, opset: int, make: Callable[[], Traced]) -> Net:
    """By torch.export."""
    return Net(name, family, f"torch.export, opset {opset}", lambda folder: _dynamo(folder, make, opset))


def scripted(
    name: str,
    family: str,
    opset: int,
    make: Callable[[], Traced],
    then: Then | None = None,
    outputs: Sequence[str] | None = None,
    *,
    norms: bool = False,
) -> Net:
    """By the older TorchScript exporter, with what a detector puts behind it (`then`).

    `norms`: BatchNormalization stays beside convolutions, as other frameworks' exporters leave it.
    """
    how = f"TorchScript, opset {opset}" + (", a tail by hand" if then else "")
    return Net(name, family, how, lambda folder: _scripted(folder, make, opset, then, outputs, norms))


def by_hand(
    name: str,
    family: str,
    how: str,
    model: Callable[[], onnx.ModelProto],
    feeds: Callable[[], tuple[Feeds, Feeds]],
) -> Net:
    def make(folder: Path) -> tuple[Feeds, Feeds]:
        onnx.save(model(), folder / "model.onnx")
        return feeds()

    return Net(name, family, how, make)


class Outputs(torch.nn.Module):
    """A model of transformers, called by names of inputs, giving some of its outputs."""

    def __init__(
        self, model: torch.nn.Module, inputs: Iterable[str], outputs: Iterable[str], **fixed: Any
    ) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs, self.fixed = model, tuple(inputs), tuple(outputs), fixed

    def forward(self, *args: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, args, strict=True)), **self.fixed)
        return tuple(getattr(found, name) for name in self.outputs)


def arrays(tensors: dict[str, torch.Tensor]) -> Feeds:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _ready(make: Callable[[], Traced]) -> Traced:
    """The net with biases and gains that are not all zero or one, as those of trained nets are."""
    torch.manual_seed(SEED)
    net = make()
    net.module.eval()
    for weight in net.module.parameters():
        if weight.ndim == 1 and bool((weight == weight[0]).all()):
            weight.data += 0.1 * torch.randn_like(weight)
    return net


def _axes(net: Traced) -> dict[str, dict[int, str]]:
    """Names of the sizes that vary, by input and axis: equal ones are called alike."""
    pairs = {name: zip(net.small[name].shape, net.large[name].shape, strict=True) for name in net.small}
    return {
        name: {axis: f"size_{a}_{b}" for axis, (a, b) in enumerate(pair) if a != b}
        for name, pair in pairs.items()
    }


def _dynamo(folder: Path, make: Callable[[], Traced], opset: int) -> tuple[Feeds, Feeds]:
    net = _ready(make)
    shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in _axes(net).values())
    with _quiet():
        torch.onnx.export(
            net.module,
            tuple(net.small.values()),
            str(folder / "model.onnx"),
            dynamo=True,
            input_names=list(net.small),
            dynamic_shapes=(shapes,) if isinstance(net.module, Outputs) else shapes,
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    return arrays(net.small), arrays(net.large)


def _scripted(
    folder: Path,
    make: Callable[[], Traced],
    opset: int,
    then: Then | None,
    outputs: Sequence[str] | None,
    norms: bool,
) -> tuple[Feeds, Feeds]:
    net = _ready(make)
    path = folder / "model.onnx"
    kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False} if norms else {}
    with _quiet():
        torch.onnx.export(
            net.module,
            tuple(net.small.values()),
            str(path),
            dynamo=False,
            input_names=list(net.small),
            output_names=outputs,
            dynamic_axes={name: axes for name, axes in _axes(net).items() if axes},
            opset_version=opset,
            **kept,
        )
    if then is not None:
        onnx.save(then(onnx.load(path)), path)
    return arrays(net.small), arrays(net.large)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
