"""Binds the weights of a traced graph to the checkpoint, without reading them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.export._convert import NotByName, converted
from graphopt.export._quantized import Checkpoint
from graphopt.ir import Cast, Expr, LazyTensor, same_content

if TYPE_CHECKING:
    from graphopt.export._skeleton import Skeleton

__all__ = ["bind"]


def bind(model: ir.Model, skeleton: Skeleton, checkpoint: Checkpoint) -> None:
    """Give every initializer without data its tensor of the checkpoint, as a lazy expression, in place.

    Names are mapped by transformers' own rules. Raises `BadInput` for a weight that the checkpoint lacks or
    holds in another shape, `NotByName` where only loading the model can tell.
    """
    network = skeleton.model
    stored = converted(network, checkpoint)
    groups = _tied(network)
    missing: list[str] = []
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not _is_placeholder(tensor):
            continue
        copies = [stored[alias] for alias in groups.get(name, (name,)) if alias in stored]
        if name in skeleton.buffers and (name not in skeleton.persistent or not copies):
            value.const_value = ir.Tensor(skeleton.buffers[name], name=name)
        elif name not in groups:
            raise NotByName(f"constant {name!r} has no value without the weights")
        elif not copies:
            missing.append(name)
        else:
            value.const_value = LazyTensor(_fitting(name, copies, tensor), name=name)
    if missing:
        _refuse(missing, network, checkpoint)


def _is_placeholder(tensor: ir.TensorProtocol) -> bool:
    device = getattr(tensor.raw, "device", None)
    return device is not None and device.type == "meta"


def _tied(network: Any) -> dict[str, tuple[str, ...]]:
    """Every parameter and buffer name, with all names of the same tensor (its own included)."""
    by_tensor: dict[int, list[str]] = {}
    for name, tensor in (
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ):
        by_tensor.setdefault(id(tensor), []).append(name)
    return {name: tuple(names) for names in by_tensor.values() for name in names}


def _fitting(name: str, copies: list[Expr], wanted: ir.TensorProtocol) -> Expr:
    first = copies[0]
    for other in copies[1:]:
        if other.shape != first.shape or not same_content(LazyTensor(first), LazyTensor(other)):
            raise NotByName(f"weight {name!r} is tied, but its copies in the checkpoint differ")
    shape = tuple(wanted.shape.numpy())
    if first.shape != shape:
        raise BadInput(
            f"weight {name!r} has shape {list(first.shape)} in the checkpoint; "
            f"config.json asks for {list(shape)}"
        )
    return first if first.dtype == wanted.dtype else Cast(first, wanted.dtype)


def _refuse(missing: list[str], network: Any, checkpoint: Checkpoint) -> None:
    ignored = list(_may_be_missing(missing, network))
    if len(ignored) == len(missing):
        raise NotByName(f"{missing[0]!r} is not in the checkpoint and is made when the model is loaded")
    rest = [name for name in missing if name not in ignored]
    shown = ", ".join(rest[:4]) + (f" and {len(rest) - 4} more" if len(rest) > 4 else "")
    raise BadInput(
        f"the checkpoint in {checkpoint.folder} lacks weights of {type(network).__name__}: {shown}",
        hint="It was saved from a model for another task; choose that one with --task.",
    )


def _may_be_missing(names: list[str], network: Any) -> Iterator[str]:
    patterns = network._keys_to_ignore_on_load_missing or ()
    return (name for name in names if any(re.search(pattern, name) for pattern in patterns))
