"""Encoder-decoder models that classify a text, or a pair of texts, by where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from graphopt.families import ExportInputs, InputDomain
from graphopt.interface import Interface

from ._text_domain import EncoderDomain
from .encoder import Encoder


class PairClassifier(Encoder):
    """BART and mBART with a head: what zero-shot classification by entailment (Yin et al. 2019,
    arXiv:1909.00161) runs on.

    The graph takes `input_ids` and `attention_mask` int64[batch, sequence], each row with an end token as its
    last; it gives `logits` float32[batch, classes]. It reads the state at the last end token of each row,
    where PyTorch's asks that all rows have equally many.
    """

    name = "pair-classifier"
    tasks = ("text-classification",)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        return bool(config.get("is_encoder_decoder")) and config.get("model_type") in ("bart", "mbart")

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        made = super().export_inputs(model, task)
        tensors = {name: made.kwargs[name] for name in made.dims}
        return ExportInputs(tensors, made.dims, ("logits",), forward=partial(_classified, model))

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return _EndedDomain(interface, config)


def _classified(model: Any, input_ids: Any, attention_mask: Any) -> tuple[Any, ...]:
    """What the model's own call gives, without picking rows by a mask, whose number no trace knows."""
    import torch

    states = model.model(input_ids, attention_mask=attention_mask, use_cache=False)[0]
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = torch.where(input_ids == model.config.eos_token_id, places, 0).argmax(-1)
    index = last[:, None, None].expand(-1, 1, states.shape[-1])
    return (model.classification_head(states.gather(1, index)[:, 0]),)


class _EndedDomain(EncoderDomain):
    """Texts whose last token is the end, and no other."""

    def _tokens(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        end = int(self._config["eos_token_id"])
        tokens = super()._tokens(rng, mask)
        other = next(i for i in range(self._vocabulary) if i not in (end, self._pad))
        tokens[tokens == end] = other
        last = mask.shape[1] - 1 - mask[:, ::-1].argmax(1)
        tokens[np.arange(len(tokens)), last] = end
        return tokens
