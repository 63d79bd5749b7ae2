"""Text encoders, bare or with a head."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.export import load_torch_model
from graphopt.families import ExportInputs, Family, InputDomain, PackageContext, Reference
from graphopt.interface import Interface

from ._files import beyond_the_table, copy_config, copy_sentence_modules, copy_tokenizer
from ._reference import PlainReference
from ._text_domain import EncoderDomain

# Different sizes, neither 1, so that torch cannot take one for another or for a constant.
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

        _refuse_without_padding(model)
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
        return copy_sentence_modules(source_dir, staging) + beyond_the_table(staging, config)


def _refuse_without_padding(model: Any) -> None:
    """Raise `BadInput` for a decoder that classifies by its last token, and cannot tell which that is."""
    source = inspect.getsource(type(model).forward)
    if "if no padding token is defined" in source and model.config.get_text_config().pad_token_id is None:
        raise BadInput(
            f"{type(model).__name__} takes the last token before padding, and config.json has no "
            "pad_token_id: it cannot classify several texts in one call",
            hint="Set pad_token_id to the id of a token no text holds: the tokenizer's pad_token.",
        )


def _flags(model: Any) -> dict[str, bool]:
    return {"use_cache": False} if "use_cache" in inspect.signature(type(model).forward).parameters else {}
