"""What a causal language model carries from one call to the next: the tensors of its layers' caches."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.errors import BadInput
from graphopt.interface import Interface

from ._caches import PAST, PRESENT

__all__ = ["State", "cache_argument", "filled_cache", "read", "states_of", "with_states"]

_NAME = re.compile(r"past_key_values\.(\d+)\.(\w+)")
# Cache layers that hold keys and values alone, and those that hold the tensors `_tensors` finds.
_PLAIN = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"})
_KNOWN = _PLAIN | {
    "DynamicIndexedLayer",
    "LinearAttentionLayer",
    "LinearAttentionAndFullAttentionLayer",
    "LinearAttentionAndSlidingWindowAttentionLayer",
}


@dataclass(frozen=True)
class State:
    """One tensor of a layer's cache.

    `kind` is key, value [batch, heads, past, size], indexer_key [batch, past, size], conv_state [batch,
    channels, kernel size - 1], the latest inputs of a causal convolution, or recurrent_state [batch, ...]. Of
    several of a kind the second is called conv_state_1. The names are onnxruntime-genai's where it has any.
    """

    layer: int
    kind: str
    dims: tuple[int | str, ...]

    @property
    def past(self) -> str:
        """The graph input's name."""
        return PAST.format(self.layer, self.kind)

    @property
    def present(self) -> str:
        """The graph output's name."""
        return PRESENT.format(self.layer, self.kind)

    @property
    def index(self) -> int:
        """Which it is of several of its kind in the layer."""
        return int(found[0]) if (found := re.findall(r"\d+$", self.kind)) else 0


def with_states(interface: Interface) -> list[State]:
    """The states that a graph of this interface takes, in order."""
    found = ((spec, _NAME.fullmatch(spec.name)) for spec in interface.inputs)
    return [
        State(int(m[1]), m[2], tuple(d if isinstance(d, int) else str(d) for d in spec.dims))
        for spec, m in found
        if m is not None
    ]


def cache_argument(model: Any) -> str:
    """What the model's `forward` calls its cache; `BadInput` where it takes none of transformers' own."""
    known = inspect.signature(type(model).forward).parameters
    name = next((name for name in ("past_key_values", "cache_params") if name in known), None)
    if name is None:
        raise _other_state(model, "its forward takes no cache of transformers' own")
    return name


def states_of(model: Any) -> list[State]:
    """The states of `model`, on the meta device, as a forward pass makes them.

    Raises `BadInput` for a model that keeps anything else.
    """
    import torch

    cache = _empty_cache(model)
    tokens = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
    held = _held_by_modules(model)
    with torch.no_grad():
        model(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            use_cache=True,
            **{cache_argument(model): cache},
        )
    if kept := _held_by_modules(model) - held:
        raise _other_state(model, f"its modules keep {', '.join(sorted({name for name, _ in kept}))}")
    found = [
        State(index, kind, _dims(kind, tensor))
        for index, layer in enumerate(cache.layers)
        for kind, tensor in _tensors(layer)
    ]
    if not found:
        raise _other_state(model, "it fills no cache of transformers' own")
    return found


def filled_cache(
    model: Any, states: Sequence[State], tensors: Sequence[Any], *, one_more: bool = False
) -> Any:
    """A cache of `model` that holds `tensors`; empty without any.

    `one_more` puts a place before a convolution's state, which transformers keeps and never reads.
    """
    import torch
    from transformers.cache_utils import DynamicLayer

    cache = _empty_cache(model)
    for state, tensor in zip(states, tensors, strict=True):
        while len(cache.layers) <= state.layer:
            cache.layers.append(DynamicLayer())
        layer = cache.layers[state.layer]
        if state.kind.startswith("conv_state") and one_more:
            tensor = torch.nn.functional.pad(tensor, (1, 0))
        _put(layer, state, tensor)
    return cache


def read(cache: Any, state: State) -> Any:
    """The tensor of `state` that `cache` holds after a call."""
    tensor = dict(_tensors(cache.layers[state.layer]))[state.kind]
    return tensor[..., -int(state.dims[-1]) :] if state.kind.startswith("conv_state") else tensor


def _empty_cache(model: Any) -> Any:
    """A cache in which layers with a sliding window keep every position, so that one graph is right at any.

    Where the configuration asks for nothing but keys and values, layers are made as they are used.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, LinearAttentionAndFullAttentionLayer

    cache = DynamicCache()
    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return cache
    kinds = {type(layer).__name__ for layer in layers}
    if kinds <= _PLAIN:
        return cache
    if unknown := kinds - _KNOWN:
        raise _other_state(model, ", ".join(sorted(unknown)))
    plain = {
        "DynamicSlidingWindowLayer": lambda layer: DynamicLayer(),
        "LinearAttentionAndSlidingWindowAttentionLayer": lambda layer: LinearAttentionAndFullAttentionLayer(
            number_of_states=layer.number_of_states
        ),
    }
    cache.layers = [plain.get(type(layer).__name__, lambda layer: layer)(layer) for layer in layers]
    cache.layer_class_to_replicate = None
    return cache


def _held_by_modules(model: Any) -> set[tuple[str, int]]:
    """Tensors that modules hold beside parameters and buffers: a state in them is in no cache.

    Frequencies of rotary embeddings, which long RoPE makes on its first call, are constants.
    """
    import torch

    return {
        (name, id(value))
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor) and not name.endswith("inv_freq")
    }


def _tensors(layer: Any) -> Iterator[tuple[str, Any]]:
    """What a cache layer holds, by kind, in the order in which its attributes were made."""
    for attribute, value in vars(layer).items():
        if attribute == "keys" and value is not None:
            yield "key", value
        elif attribute == "values" and value is not None:
            yield "value", value
        elif attribute == "indexer_keys" and value is not None:
            yield "indexer_key", value
        elif attribute in ("conv_states", "recurrent_states"):
            for index, tensor in value.items():
                if tensor is not None:
                    yield attribute.removesuffix("s") + (f"_{index}" if index else ""), tensor


def _dims(kind: str, tensor: Any) -> tuple[int | str, ...]:
    sizes: list[int | str] = ["batch", *map(int, tensor.shape[1:])]
    if kind in ("key", "value", "indexer_key"):
        sizes[-2] = "past"
    return tuple(sizes)


def _put(layer: Any, state: State, tensor: Any) -> None:
    if state.kind in ("key", "value"):
        if not layer.is_initialized:
            layer.dtype, layer.device = tensor.dtype, tensor.device
            layer.is_initialized = True
        setattr(layer, state.kind + "s", tensor)
    elif state.kind == "indexer_key":
        layer.lazy_initialization_indexer(tensor)
        layer.indexer_keys = tensor
    else:
        kind = "conv_states" if state.kind.startswith("conv") else "recurrent_states"
        layer.dtype, layer.device = tensor.dtype, tensor.device
        getattr(layer, kind)[state.index] = tensor
        getattr(layer, f"is_{kind}_initialized")[state.index] = True
        layer.has_previous_state[state.index] = True
        if kind == "conv_states":
            layer.conv_kernel_size[state.index] = tensor.shape[-1]


def _other_state(model: Any, what: str) -> BadInput:
    return BadInput(f"{type(model).__name__} keeps a state that graphopt does not know: {what}")
