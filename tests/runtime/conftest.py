"""A small decoder with seeded random weights, made the way packages are, and a folder genai runs it from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from graphopt.ir import save_model
from graphopt.plugins import registry
from graphopt.recipes import Step
from graphopt.runtime import TextModel
from tests._cache import ROOT
from tests.passes._canonical import Shape
from tests.passes._runs import LOWERING, Lowered

SHAPE = Shape(vocab=4096, positions=64)
OPENING = "<|endoftext|>"


@pytest.fixture(scope="session")
def lowered() -> Lowered:
    """A canonical decoder and what the cpu target makes of it; its attention writes the cache in place."""
    steps = [Step(s, {"mode": "masked"} if s == "lower-attention" else {}) for s in LOWERING]
    return Lowered(SHAPE, "pack-qkv", *steps, "dead-code", "cse")


@pytest.fixture(scope="session")
def folder(lowered: Lowered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model.onnx, genai_config.json and the tokenizer of tiny-coder. Copy it, never write to it."""
    path = tmp_path_factory.mktemp("decoder")
    save_model(lowered.model, path / "model.onnx")
    (path / "genai_config.json").write_text(json.dumps(_config()), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "models" / "tiny_coder" / name, path / name)
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of `folder` to change."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def opened(folder: Path) -> Any:
    """The cpu target's session of the graph in `folder`."""
    return registry.targets()["cpu"]().session(folder / "model.onnx")


def text_model(folder: Path, *, speculate: bool = False) -> TextModel:
    """What generates text with it."""
    return TextModel(folder, lambda: opened(folder), speculate=speculate)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def opens_texts(folder: Path) -> None:
    """Make the tokenizer put <|endoftext|>, token 0, before a text, as Llama's does."""
    opening = {"SpecialToken": {"id": OPENING, "type_id": 0}}
    processor = {
        "type": "TemplateProcessing",
        "single": [opening, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {OPENING: {"id": OPENING, "ids": [0], "tokens": [OPENING]}},
    }
    change(folder / "tokenizer.json", post_processor=processor)


def _config() -> dict[str, object]:
    past = {f"past_{kind}_names": f"past_key_values.%d.{kind}" for kind in ("key", "value")}
    present = {f"present_{kind}_names": f"present.%d.{kind}" for kind in ("key", "value")}
    names = ("input_ids", "attention_mask", "position_ids")
    decoder = {
        "filename": "model.onnx",
        "session_options": {"provider_options": []},
        "hidden_size": SHAPE.hidden,
        "head_size": SHAPE.head,
        "num_attention_heads": SHAPE.heads,
        "num_key_value_heads": SHAPE.kv_heads,
        "num_hidden_layers": SHAPE.layers,
        "inputs": {name: name for name in names} | past,
        "outputs": {"logits": "logits", **present},
    }
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "vocab_size": SHAPE.vocab}
    return {
        "model": {"type": "decoder", **ids, "context_length": SHAPE.positions, "decoder": decoder},
        "search": {"max_length": SHAPE.positions, "past_present_share_buffer": True},
    }
