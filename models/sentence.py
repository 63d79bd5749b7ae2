"""Encoders that make one vector of a text, as sentence-transformers' folders say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.families import ExportInputs, InputDomain, Reference
from graphopt.interface import Interface

from ._sentence_graph import OUTPUT, add_sentence_embedding, sentence_embedding
from ._sentence_modules import SentenceModule, Unsupported, sentence_modules
from ._text_domain import EncoderDomain
from .encoder import Encoder

_TOKENS = "last_hidden_state"


class SentenceEncoder(Encoder):
    """sentence-transformers: a text encoder, pooling, and Dense and Normalize modules where there are.

    The graph takes what an encoder's does; it gives `last_hidden_state` float32[batch, sequence, width] and
    `sentence_embedding` float32[batch, size], what `SentenceTransformer.encode` gives (Reimers and Gurevych
    2019, arXiv:1908.10084). Without a modules.json, or with modules that no graph holds, such a model is an
    encoder.
    """

    name = "sentence-encoder"
    tasks = ("sentence-similarity",)

    def also_read(self, source_dir: Path) -> Iterable[Path]:
        """Modules beside the transformer's folder, where their list stands there."""
        above = source_dir.parent
        if not (above / "modules.json").is_file():
            return []
        patterns = ("*.json", "*.safetensors", "*/*.json", "*/*.safetensors")
        return [path for pattern in patterns for path in above.glob(pattern)]

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        if not super().matches(config, task) or config.get("source_dir") is None:
            return False
        try:
            return bool(sentence_modules(Path(config["source_dir"])))
        except Unsupported:
            return False

    def model_class(self, task: str) -> str:
        return "AutoModel"

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return _SentenceDomain(interface, config)

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        made = super().export_inputs(model, task)
        return replace(made, outputs=(_TOKENS,), forward=partial(_tokens, model.forward))

    def finish(self, model: ir.Model, source_dir: Path) -> list[str]:
        add_sentence_embedding(model.graph, _modules(source_dir))
        return []

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        tokens = Interface(interface.inputs, tuple(s for s in interface.outputs if s.name != OUTPUT))
        inner = super().reference(source_dir, task, tokens, trust_remote_code=trust_remote_code)
        return _SentenceReference(inner, _modules(source_dir))


def _tokens(call: Any, **tensors: Any) -> tuple[Any, ...]:
    """What the modules read, and no pooler's output."""
    return (call(**tensors, return_dict=True)[_TOKENS],)


class _SentenceDomain(EncoderDomain):
    """An encoder's calls; a text's vector is made of its tokens, wherever they begin."""

    @staticmethod
    def _valid(dims: Sequence[int | str | None], mask: np.ndarray) -> np.ndarray:
        whole = len(dims) == len(("batch", "size"))
        return np.ones((1, 1), np.bool_) if whole else EncoderDomain._valid(dims, mask)


class _SentenceReference(Reference):
    def __init__(self, inner: Reference, modules: list[SentenceModule]) -> None:
        self._inner, self._modules = inner, modules

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = self._inner(feeds)
        tokens = results[_TOKENS]
        return results | {OUTPUT: sentence_embedding(tokens, feeds["attention_mask"], self._modules)}


def _modules(source_dir: Path) -> list[SentenceModule]:
    try:
        return sentence_modules(source_dir)
    except Unsupported as reason:
        raise BadInput(
            f"{source_dir} makes no vector of a text that a graph could: {reason}",
            hint="Leave --task out, or pass --task feature-extraction.",
        ) from reason
