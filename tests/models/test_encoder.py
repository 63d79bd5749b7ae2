"""What text encoders need to know of their configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from graphopt_models.encoder import Encoder

from graphopt.errors import BadInput


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_that_classifies_must_know_what_pads(kind: str, tiny_model: Callable[..., Path]) -> None:
    config = transformers.AutoConfig.from_pretrained(tiny_model(kind))
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    Encoder().export_inputs(model, "text-classification")
    model.config.pad_token_id = None
    with pytest.raises(BadInput, match=r"no pad_token_id(.|\n)*Set pad_token_id"):
        Encoder().export_inputs(model, "text-classification")


def test_an_encoder_that_classifies_need_not(tiny_model: Callable[..., Path]) -> None:
    config = transformers.AutoConfig.from_pretrained(tiny_model("bert"), pad_token_id=None)
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    Encoder().export_inputs(model, "text-classification")
