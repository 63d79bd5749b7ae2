"""The two graphs of an encoder-decoder model: its encoder, and one step of its decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import BadInput
from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, InputDomain, Part, Reference
from graphopt.interface import Interface

from ._caches import PAST, PRESENT, Sizes, filled, on_meta, sizes_of, state_names, tensors_of
from ._seq2seq_domain import FEATURES, MASK, TOKENS, DecoderDomain, EncoderDomain
from ._state import with_states

CROSS = "cross_key_values.{}.{}"
SOURCE_MASK = f"encoder_{MASK}"
CLASSES = {
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "automatic-speech-recognition": "AutoModelForSpeechSeq2Seq",
}
_REREAD = frozenset({"fsmt"})
# Different sizes on every axis, so that torch cannot take one for another.
BATCH, SOURCE, SEQUENCE, PAST_LENGTH = 2, 7, 3, 5

Tensors = Mapping[str, Any]
Dims = dict[str, tuple[int | str | None, ...]]
Call = Callable[..., tuple[Any, ...]]


class Encoder(Part):
    """What the decoder attends to: `cross_key_values.N.key/value` float32[batch, heads, source, head size].

    Inputs are `input_ids` and `attention_mask` int64[batch, source], or `input_features` float32[batch, mel
    bins, frames] of fixed length.
    """

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        tensors, dims = sample(model, task)
        names = state_names(CROSS, len(_sizes(model, tensors)[1]))
        return _traceable(tensors, dims, tuple(names), partial(_encode, model.forward))

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return EncoderDomain(interface, config)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        return _PartReference(source_dir, task, interface, _encode, trust_remote_code)


class Decoder(Part):
    """The next tokens after some, by what was made of those and of the source.

    The graph takes `input_ids` int64[batch, sequence], the source's `encoder_attention_mask` int64[batch,
    source] where it has one, `past_key_values.N.key/value` float32[batch, heads, past, head size], and the
    encoder's `cross_key_values`; it gives `logits` float32[batch, sequence, vocabulary] and
    `present.N.key/value`, the past followed by the new positions. No token is padding.
    """

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

        if model.config.model_type in _REREAD:
            raise BadInput(f"{type(model).__name__} reads the whole answer again for each token of it")
        given, source = sample(model, task)
        own, cross, hidden = _sizes(model, given)
        ids = torch.zeros(BATCH, SEQUENCE, dtype=torch.int64, device=model.device)
        tensors: dict[str, Any] = {TOKENS: ids}
        dims: Dims = {TOKENS: ("batch", "sequence")}
        length: int | str = hidden[1]
        if MASK in given:
            tensors[SOURCE_MASK], dims[SOURCE_MASK] = given[MASK], source[MASK]
            length = "source"

        def add(pattern: str, sizes: Sizes, name: int | str, positions: int) -> None:
            for state, (heads, size) in zip(
                state_names(pattern, len(sizes)), (s for layer in sizes for s in layer), strict=True
            ):
                tensors[state] = torch.zeros(BATCH, heads, positions, size, device=model.device)
                dims[state] = ("batch", heads, name, size)

        add(PAST, own, "past", PAST_LENGTH)
        add(CROSS, cross, length, hidden[1])
        outputs = ("logits", *state_names(PRESENT, len(own)))
        return _traceable(tensors, dims, outputs, partial(_decode, model.forward, width=hidden[2]))

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return DecoderDomain(interface, config)

    def states(self, interface: Interface) -> Mapping[str, str]:
        return {state.past: state.present for state in with_states(interface)}

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        return _PartReference(source_dir, task, interface, _decode, trust_remote_code)


def sample(model: Any, task: str) -> tuple[dict[str, Any], Dims]:
    """Inputs of the encoder, by name, and their dims."""
    import torch

    if task == "automatic-speech-recognition":
        config = model.config
        frames = 2 * int(config.max_source_positions)
        features = torch.zeros(BATCH, int(config.num_mel_bins), frames, device=model.device)
        return {FEATURES: features}, {FEATURES: ("batch", *features.shape[1:])}
    mask = torch.ones(BATCH, SOURCE, dtype=torch.int64, device=model.device)
    mask[0, -1] = 0
    return {TOKENS: torch.ones_like(mask), MASK: mask}, dict.fromkeys((TOKENS, MASK), ("batch", "source"))


def _traceable(tensors: Tensors, dims: Dims, outputs: tuple[str, ...], call: Call) -> ExportInputs:
    """A call of `call`, under names that Python allows for arguments."""
    arguments = {name.replace(".", "_"): name for name in tensors}

    def forward(**given: Any) -> tuple[Any, ...]:
        return call(**{arguments[argument]: tensor for argument, tensor in given.items()})

    kwargs = {argument: tensors[name] for argument, name in arguments.items()}
    return ExportInputs(kwargs, dims, outputs, {"total": "past + sequence"}, forward)


def _sizes(model: Any, given: Tensors) -> tuple[Sizes, Sizes, tuple[int, ...]]:
    """Sizes of the decoder's own cache and of that of the source, and the shape of the encoder's result."""
    import torch

    inputs = {name: tensor for name, tensor in given.items() if name != MASK}  # nothing is hidden
    start = torch.zeros(BATCH, 1, dtype=torch.int64, device=model.device)
    cache = _empty()
    with torch.no_grad(), on_meta(model):
        results = model(**inputs, decoder_input_ids=start, past_key_values=cache)
    own, cross = cache.self_attention_cache, cache.cross_attention_cache
    if not cross.layers or len(cross.layers) != len(own.layers):
        raise BadInput(
            f"{type(model).__name__} does not keep keys and values of its source; graphopt cannot export it"
        )
    return sizes_of(own), sizes_of(cross), tuple(results.encoder_last_hidden_state.shape)


def _empty() -> Any:
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(), DynamicCache())


# `use_cache` is not said: some encoders refuse True, and Whisper's decoder drops the cache at False.


def _encode(forward: Callable[..., Any], **tensors: Any) -> tuple[Any, ...]:
    """Keys and values that a first step of the decoder makes of the source: the rest of the step is dead."""
    import torch

    first = next(iter(tensors.values()))
    start = torch.zeros((first.shape[0], 1), dtype=torch.int64, device=first.device)
    cache = _empty()
    forward(**tensors, decoder_input_ids=start, past_key_values=cache)
    return tuple(tensors_of(cache.cross_attention_cache))


def _decode(forward: Callable[..., Any], width: int = 1, **tensors: Any) -> tuple[Any, ...]:
    """A step of the decoder. The encoder's own result, `width` wide, stands for its size: it is not read."""
    import torch
    from transformers import EncoderDecoderCache
    from transformers.modeling_outputs import BaseModelOutput

    class Unread(BaseModelOutput):  # type: ignore[misc]
        router_logits = None  # what mixtures of experts add

    cache = EncoderDecoderCache(filled(PAST, tensors), filled(CROSS, tensors))
    keys = tensors[CROSS.format(0, "key")]
    for layer in range(len(cache.cross_attention_cache.layers)):
        cache.is_updated[layer] = True
    unread = torch.zeros((keys.shape[0], keys.shape[2], width), device=keys.device)
    results = forward(
        decoder_input_ids=tensors[TOKENS],
        encoder_outputs=Unread(last_hidden_state=unread),
        past_key_values=cache,
        **({MASK: tensors[SOURCE_MASK]} if SOURCE_MASK in tensors else {}),
    )
    return (results.logits, *tensors_of(cache.self_attention_cache))


class _PartReference(Reference):
    def __init__(
        self, source_dir: Path, task: str, interface: Interface, call: Call, trust_remote_code: bool
    ) -> None:
        self._model = load_torch_model(source_dir, CLASSES[task], trust_remote_code=trust_remote_code)
        self._names = [spec.name for spec in interface.outputs]
        self._call = call

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        with torch.no_grad():
            results = self._call(self._model, **tensors)
        return {name: tensor.numpy() for name, tensor in zip(self._names, results, strict=True)}
