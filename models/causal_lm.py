"""Decoder-only language models as one graph for prefill, chunked continuation and decode."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, Family, InputDomain, PackageContext, Reference
from graphopt.interface import Interface

from ._caches import on_meta
from ._files import beyond_the_table, copy_generation, copy_tokenizer, generation_files
from ._genai import context_length_of, write_genai_config
from ._pad import choose_padding
from ._recurrence import any_length, keeps_one_more, restarts
from ._state import State, cache_argument, filled_cache, read, states_of, with_states
from ._text_domain import DecoderDomain
from ._tokenizer import write_tokenizer

# Different sizes on every axis, so that torch cannot take one for another.
BATCH, SEQUENCE, PAST_LENGTH = 2, 3, 5


# A language model that also listens is sequence-to-sequence to transformers; on text it is like others.
_CLASSES = {"text-generation": "AutoModelForCausalLM", "text2text-generation": "AutoModelForSeq2SeqLM"}


class CausalLM(Family):
    """Decoder-only language models: attention, recurrent layers, convolutions, in any mixture.

    The graph takes `input_ids` and `position_ids` int64[batch, sequence], `attention_mask` int64[batch,
    total] and its layers' states; it gives `logits` float32[batch, sequence, vocabulary] and the new states.
    `past_key_values.N.key/value` are float32[batch, heads, past, head size], `present.N.key/value` the past
    followed by the new positions. Caches of sliding-window layers hold every position too, so that one graph
    is right at any length. `past_key_values.N.conv_state/recurrent_state` have one size at any length; they
    are zero before the first token, and a batch is padded on the left or not at all.
    """

    name = "causal-lm"
    tasks = tuple(_CLASSES)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return not config.get("is_encoder_decoder", False)

    def default_recipe(self, task: str) -> str:
        return "int4" if task == "text-generation" else "lossless"

    def model_class(self, task: str) -> str:
        return _CLASSES[task]

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

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
        with on_meta(model):
            states = states_of(model)
        dims |= {state.past: state.dims for state in states}
        sizes = {"batch": BATCH, "past": PAST_LENGTH}
        tensors = [
            torch.zeros([sizes[d] if isinstance(d, str) else d for d in state.dims], device=model.device)
            for state in states
        ]
        kwargs[cache_argument(model)] = filled_cache(model, states, tensors)
        kwargs["use_cache"] = True
        outputs = ("logits", *(state.present for state in states))
        return ExportInputs(kwargs, dims, outputs, derived={"total": "past + sequence"})

    def tracing(self, model: Any) -> AbstractContextManager[None]:
        return any_length(model)

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return DecoderDomain(interface, config)

    def states(self, interface: Interface) -> Mapping[str, str]:
        return {state.past: state.present for state in with_states(interface)}

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        return _CausalReference(
            load_torch_model(source_dir, self.model_class(task), trust_remote_code=trust_remote_code),
            with_states(interface),
        )

    def taken_over(self, source_dir: Path) -> Iterable[Path]:
        return generation_files(source_dir)

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        notes = write_genai_config(source_dir, config, staging, context)
        notes += copy_generation(source_dir, staging)
        if (staging / "genai_config.json").is_file():
            notes += write_tokenizer(source_dir, staging, context_length_of(config))
            notes += choose_padding(staging, config)
        else:
            copy_tokenizer(source_dir, staging)
        return notes + beyond_the_table(staging, config)


class _CausalReference(Reference):
    """The model with its own cache: an empty one where the call has no past."""

    def __init__(self, model: Any, states: Sequence[State]) -> None:
        self._model = model
        self._states = states
        self._one_by_one, self._one_more = restarts(model), keeps_one_more(model)

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        tensors = {name: torch.from_numpy(np.array(array)) for name, array in feeds.items()}
        held = [tensors.pop(state.past) for state in self._states]
        new = tensors["input_ids"].shape[1]
        past = tensors["attention_mask"].shape[1] - new
        states, values = (self._states, held) if past else ([], [])
        cache = filled_cache(self._model, states, values, one_more=self._one_more)
        step = 1 if past and self._one_by_one else new
        logits = [self._logits(tensors, cache, slice(at, at + step), past) for at in range(0, new, step)]
        results = {"logits": torch.cat(logits, 1).numpy()}
        return results | {state.present: read(cache, state).numpy().copy() for state in self._states}

    def _logits(self, tensors: Mapping[str, Any], cache: Any, part: slice, past: int) -> Any:
        """Of the new tokens in `part`; where no state grows the mask is of them alone."""
        import torch

        start = 0 if any("past" in state.dims for state in self._states) else past + part.start
        given = {
            name: tensor[:, start : past + part.stop] if name == "attention_mask" else tensor[:, part]
            for name, tensor in tensors.items()
        }
        with torch.no_grad():
            return self._model(**given, **{cache_argument(self._model): cache}, use_cache=True).logits
