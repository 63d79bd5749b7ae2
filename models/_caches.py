"""What transformers keeps of a text: keys and values of every layer, and how large they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["PAST", "PRESENT", "filled", "on_meta", "sizes_of", "state_names", "tensors_of"]

PAST = "past_key_values.{}.{}"
PRESENT = "present.{}.{}"
_PARTS = ("key", "value")

Sizes = list[tuple[tuple[int, int], tuple[int, int]]]
"""Heads and head size of the keys and of the values of every layer."""


def state_names(pattern: str, layers: int) -> list[str]:
    """The names of keys and values, layer by layer."""
    return [pattern.format(index, part) for index in range(layers) for part in _PARTS]


def filled(pattern: str, tensors: Mapping[str, Any]) -> Any:
    """A `DynamicCache` of the `tensors` that `pattern` names; an empty one where there are none."""
    from transformers import DynamicCache

    states: list[tuple[Any, ...]] = []
    while pattern.format(len(states), "key") in tensors:
        states.append(tuple(tensors[pattern.format(len(states), part)] for part in _PARTS))
    return DynamicCache(states or None)


def tensors_of(cache: Any) -> list[Any]:
    """Keys and values of a cache, in the order of `state_names`."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def sizes_of(cache: Any) -> Sizes:
    """The sizes of what a cache holds."""
    return [
        ((k.shape[1], k.shape[3]), (v.shape[1], v.shape[3]))
        for k, v in ((layer.keys, layer.values) for layer in cache.layers)
    ]


@contextmanager
def on_meta(model: Any) -> Iterator[None]:
    """Inside, `model` runs without data: other attention looks into the mask, other experts into counts."""
    attention, experts = model.config._attn_implementation, None
    model.set_attn_implementation("eager")
    if model._can_set_experts_implementation():
        experts = model.get_experts_implementation()
        model.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        if experts is not None:
            model.set_experts_implementation(experts)
