"""Decoder-only language models as one graph for prefill, chunked continuation and decode."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, Family, InputDomain, Interface, PackageContext, Reference

from ._caches import PAST, PRESENT, Sizes, filled, on_meta, sizes_of, state_names, tensors_of
from ._files import copy_tokenizer
from ._genai import context_length_of, write_genai_config
from ._text_domain import DecoderDomain
from ._tokenizer import write_tokenizer

# Different sizes on every axis, so that torch cannot take one for another.
BATCH, SEQUENCE, PAST_LENGTH = 2, 3, 5
# What transformers caches a layer in; a dummy stands for a layer that uses another's.
_KEYS_AND_VALUES = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"})


# A language model that also listens is sequence-to-sequence to transformers; on text it is like others.
_CLASSES = {"text-generation": "AutoModelForCausalLM", "text2text-generation": "AutoModelForSeq2SeqLM"}


class CausalLM(Family):
    """Decoder-only language models whose state is keys and values.

    The graph takes `input_ids` and `position_ids` int64[batch, sequence], `attention_mask` int64[batch,
    total] and `past_key_values.N.key/value` float32[batch, heads, past, head size]; it gives `logits`
    float32[batch, sequence, vocabulary] and `present.N.key/value`, the past followed by the new positions.
    Caches of sliding-window layers hold every position too, so that one graph is right at any length.
    """

    name = "causal-lm"
    tasks = tuple(_CLASSES)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return not config.get("is_encoder_decoder", False)

    def model_class(self, task: str) -> str:
        return _CLASSES[task]

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch
        from transformers import DynamicCache

        def tokens(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=model.device)

        mask = torch.ones(BATCH, PAST_LENGTH + SEQUENCE, dtype=torch.int64, device=model.device)
        mask[0, 0] = 0
        kwargs: dict[str, Any] = {"input_ids": tokens(BATCH, SEQUENCE), "attention_mask": mask}
        dims: dict[str, tuple[int | str | None, ...]] = {
            "input_ids": ("batch", "sequence"),
            "attention_mask": ("batch", "total"),
        }
        if "position_ids" in inspect.signature(type(model).forward).parameters:
            kwargs["position_ids"] = tokens(BATCH, SEQUENCE)
            dims["position_ids"] = ("batch", "sequence")
        states, outputs = [], ["logits"]
        for index, sizes in enumerate(_cache_sizes(model)):
            for kind, (heads, head_size) in zip(("key", "value"), sizes, strict=True):
                dims[PAST.format(index, kind)] = ("batch", heads, "past", head_size)
                outputs.append(PRESENT.format(index, kind))
            states.append(tuple(torch.zeros(BATCH, h, PAST_LENGTH, d, device=model.device) for h, d in sizes))
        kwargs |= {"past_key_values": DynamicCache(states), "use_cache": True}
        return ExportInputs(kwargs, dims, tuple(outputs), derived={"total": "past + sequence"})

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return DecoderDomain(interface, config)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        return _CausalReference(
            load_torch_model(source_dir, self.model_class(task), trust_remote_code=trust_remote_code)
        )

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        refused = write_genai_config(source_dir, config, staging, context)
        if refused:
            copy_tokenizer(source_dir, staging)
            return refused
        return write_tokenizer(source_dir, staging, context_length_of(config))


def _cache_sizes(model: Any) -> Sizes:
    """Heads and head size of the keys and of the values of every layer, as a forward pass makes them."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    _check_state(model)
    cache = DynamicCache()
    tokens = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
    with torch.no_grad(), on_meta(model):
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens), past_key_values=cache, use_cache=True)
    layers = [layer for layer in cache.layers if type(layer) is DynamicLayer and layer.is_initialized]
    if len(layers) != len(cache.layers) or not layers:
        raise _other_state(model)
    return sizes_of(cache)


def _check_state(model: Any) -> None:
    """Refuse a model whose configuration says that its layers keep more than keys and values."""
    from transformers import DynamicCache

    try:
        kinds = {type(layer).__name__ for layer in DynamicCache(config=model.config).layers}
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # it does not say: a forward pass will
    if kinds - _KEYS_AND_VALUES:
        raise _other_state(model)


def _other_state(model: Any) -> BadInput:
    return BadInput(
        f"{type(model).__name__} keeps another state than keys and values; graphopt cannot export it"
    )


class _CausalReference(Reference):
    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        cache = filled(PAST, tensors)
        inputs = {name: tensor for name, tensor in tensors.items() if not name.startswith("past_key_values.")}
        with torch.no_grad():
            logits = self._model(**inputs, past_key_values=cache, use_cache=True).logits
        names = state_names(PRESENT, len(cache.layers))
        return {n: t.numpy() for n, t in zip(("logits", *names), (logits, *tensors_of(cache)), strict=True)}
