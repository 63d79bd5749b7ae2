"""Text encoders, bare or with a head."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, Family, InputDomain, Interface, PackageContext, Reference

from ._files import copy_config, copy_tokenizer
from ._reference import PlainReference
from ._text_domain import EncoderDomain

BATCH, SEQUENCE = 2, 7
_CLASSES = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}


class Encoder(Family):
    """Text encoders: features, masked words, classes of texts or tokens, answers in a context.

    The graph takes `input_ids` and `attention_mask` int64[batch, sequence], and `token_type_ids` of that
    shape where the model tells segments apart; it gives what the model gives, under the same names, in
    float32.
    """

    name = "encoder"
    tasks = tuple(_CLASSES)

    def matches(self, config: Mapping[str, Any], task: str) -> bool:
        both = config.get("is_encoder_decoder", False) and task != "fill-mask"  # BART fills masks, too
        return not both and config.get("vocab_size") is not None

    def model_class(self, task: str) -> str:
        return _CLASSES[task]

    def export_inputs(self, model: Any, task: str) -> ExportInputs:
        import torch

        parameters = inspect.signature(type(model).forward).parameters
        mask = torch.ones(BATCH, SEQUENCE, dtype=torch.int64, device=model.device)
        mask[0, -1] = 0
        tensors = {"input_ids": torch.ones_like(mask), "attention_mask": mask}
        if "token_type_ids" in parameters and (getattr(model.config, "type_vocab_size", 0) or 0) > 1:
            tensors["token_type_ids"] = torch.zeros_like(mask)
        return ExportInputs({**tensors, **_flags(model)}, dict.fromkeys(tensors, ("batch", "sequence")))

    def input_domain(self, interface: Interface, config: Mapping[str, Any]) -> InputDomain:
        return EncoderDomain(interface, config)

    def reference(
        self, source_dir: Path, task: str, interface: Interface, *, trust_remote_code: bool = False
    ) -> Reference:
        model = load_torch_model(source_dir, self.model_class(task), trust_remote_code=trust_remote_code)
        return PlainReference(model, [spec.name for spec in interface.outputs], _flags(model))

    def package_files(
        self, source_dir: Path, config: Mapping[str, Any], staging: Path, context: PackageContext
    ) -> list[str]:
        copy_tokenizer(source_dir, staging)
        copy_config(source_dir, staging)
        return []


def _flags(model: Any) -> dict[str, bool]:
    return {"use_cache": False} if "use_cache" in inspect.signature(type(model).forward).parameters else {}
