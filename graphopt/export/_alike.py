"""Finds the layers of a model that are all alike, so that a few of them have to be traced only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Stack", "Unlike", "alike_layers"]

_FEWEST = 8
"""Layers from which it is worth tracing three: a judgement. Finding and copying costs as much as one."""


class Unlike(Exception):
    """Layers that looked alike are not, or not in a way that is known here."""


@dataclass(frozen=True)
class Stack:
    """`layers`, a module list called `name` whose members differ in their weights and their number only.

    Of them the first is traced, which makes what the others share; `pattern`, which the rest are like, and
    the last, which is to show that they are. `pattern` is odd where the last is even, and the reverse.
    """

    name: str
    layers: torch.nn.ModuleList

    @property
    def last(self) -> int:
        return len(self.layers) - 1

    @property
    def pattern(self) -> int:
        return 1 if self.last % 2 == 0 else 2

    @property
    def copied(self) -> list[int]:
        """The layers that are not traced."""
        return [i for i in range(1, self.last) if i != self.pattern]

    @contextlib.contextmanager
    def shortened(self) -> Iterator[None]:
        """Inside, layers that are `copied` hand on what they are given.

        Raises `Unlike` at the end where the first gives anything but what it hands on.
        """
        first, given = self.layers[0], []

        def watched(*args: Any, **kwargs: Any) -> Any:
            given.append(type(first).forward(first, *args, **kwargs))
            return given[-1]

        first.forward = watched
        for index in self.copied:
            self.layers[index].forward = _handed_on
        try:
            yield
        finally:
            for index in (0, *self.copied):
                del self.layers[index].forward
        if len(given) != 1 or not isinstance(given[0], torch.Tensor):
            raise Unlike("layers give more than one tensor")


def _handed_on(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden_states


def alike_layers(model: Any) -> Stack | None:
    """The one stack of many layers in `model` (a `PreTrainedModel`), if they are alike."""
    lists = [
        (name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)
    ]
    long = [(name, layers) for name, layers in lists if len(layers) >= _FEWEST]
    outer = [(n, m) for n, m in long if not any(n.startswith(f"{other}.") for other, _ in long)]
    if len(outer) != 1:
        return None
    stack = Stack(*outer[0])
    first, count = stack.layers[0], len(stack.layers)
    if not _configured_alike(model.config, count) or _is_shared(stack.layers):
        return None
    return stack if all(_alike(stack.layers[i], i, first, 0) for i in range(1, count)) else None


def _is_shared(layers: torch.nn.ModuleList) -> bool:
    """Whether two layers have a weight in common."""
    return len(list(layers.parameters())) != sum(len(list(layer.parameters())) for layer in layers)


def _configured_alike(config: Any, count: int) -> bool:
    """Whether no list of `config` says for each layer what it is, or all say the same."""
    listed = [value for value in config.to_dict().values() if isinstance(value, list | tuple)]
    return all(value == value[:1] * count for value in listed if len(value) == count)


def _alike(layer: torch.nn.Module, index: int, other: torch.nn.Module, number: int) -> bool:
    """Whether two layers, `index` and `number` of their list, differ in weights and these numbers only."""
    mine, theirs = dict(layer.named_modules()), dict(other.named_modules())
    return list(mine) == list(theirs) and all(
        _same_module(module, index, theirs[name], number) for name, module in mine.items()
    )


def _same_module(module: torch.nn.Module, index: int, other: torch.nn.Module, number: int) -> bool:
    mine, theirs = vars(module), vars(other)
    return (
        type(module) is type(other)
        and list(mine) == list(theirs)
        and all(
            _same_tensors(value, theirs[name])
            if name in ("_parameters", "_buffers")
            else name == "_modules" or _same(value, index, theirs[name], number)
            for name, value in mine.items()
        )
    )


def _same_tensors(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    def described(tensors: dict[str, Any]) -> list[Any]:
        return [(name, t is not None and (t.shape, t.dtype)) for name, t in tensors.items()]

    return described(mine) == described(theirs)


def _same(value: Any, index: int, other: Any, number: int) -> bool:
    if value is other:
        return True
    if type(value) is not type(other):
        return False
    if type(value) is int and (value, other) == (index, number):
        return True
    return isinstance(value, bool | int | float | str | tuple | list | dict | set) and bool(value == other)
