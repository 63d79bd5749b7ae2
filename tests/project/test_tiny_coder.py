"""The embedded model is what its card says, and small enough to live in the repository."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from safetensors import safe_open

from tests._cache import ROOT

FOLDER = ROOT / "models" / "tiny_coder"


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "training.json").read_text()))


def test_the_card_states_the_numbers_of_the_training_run(facts: dict[str, Any]) -> None:
    card = (FOLDER / "MODEL_CARD.md").read_text()

    assert len(facts) > 8
    assert [f"{key}: {value}" for key, value in facts.items() if spelled(value) not in card] == []


def spelled(value: object) -> str:
    """As the card writes it: `5,573,888` and `70`, not `5573888` and `70.0`."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def test_the_weights_are_bfloat16_and_as_many_as_stated(facts: dict[str, Any]) -> None:
    with safe_open(FOLDER / "model.safetensors", "numpy") as weights:
        parts = [weights.get_slice(name) for name in weights.keys()]  # noqa: SIM118 (not a mapping)

    assert {part.get_dtype() for part in parts} == {"BF16"}
    assert facts["parameters"] == sum(math.prod(part.get_shape()) for part in parts)


def test_the_texts_and_weights_stay_small(facts: dict[str, Any]) -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 12_000_000
    assert (FOLDER / "heldout.txt").stat().st_size == facts["heldout_bytes"] <= 300_000
    assert (FOLDER / "calibration.txt").stat().st_size <= 200_000


def test_the_splits_share_no_file() -> None:
    texts = [
        (FOLDER / name).read_text().split("<|endoftext|>\n") for name in ("heldout.txt", "calibration.txt")
    ]

    assert set(texts[0]).isdisjoint(texts[1])
    assert min(map(len, texts)) > 3


def test_the_shape_suits_the_kernels() -> None:
    config = json.loads((FOLDER / "config.json").read_text())

    assert config["tie_word_embeddings"]
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert config["head_dim"] % 16 == config["hidden_size"] % 256 == config["intermediate_size"] % 256 == 0
