"""A model without its weights: parameters are shapes, computed buffers have their values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["Skeleton", "build_skeleton"]


@dataclass(frozen=True)
class Skeleton:
    """`model` lies on the meta device; `buffers` holds, by name, what its buffers were built with.

    `persistent` names the buffers that a checkpoint may hold instead.
    """

    model: Any
    buffers: dict[str, np.ndarray]
    persistent: frozenset[str]


def build_skeleton(
    auto_class: Any, config: Any, *, trust_remote_code: bool = False, **options: Any
) -> Skeleton:
    """Build the model `auto_class` makes of `config`, in float32, without memory for its parameters.

    `options` are passed to the model's class.
    """
    with _parameters_on_meta():
        model = auto_class.from_config(
            config, dtype=torch.float32, trust_remote_code=trust_remote_code, **options
        )
    model.eval()
    buffers = {name: b.detach().numpy().copy() for name, b in model.named_buffers(remove_duplicate=False)}
    persistent = frozenset(buffers) & frozenset(model.state_dict())
    moved: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = moved.setdefault(id(buffer), buffer.to("meta"))
    return Skeleton(model, buffers, persistent)


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Every parameter that a module takes on becomes a shape on the meta device; buffers are built as usual.

    The uninitialized memory behind it is never touched, so it costs address space only. A parameter shared
    between modules stays shared.
    """
    original = torch.nn.Module.register_parameter

    def register(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        if parameter is not None and parameter.device.type != "meta":
            parameter = torch.nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        original(module, name, parameter)

    torch.nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = original  # type: ignore[method-assign]
