"""The language models that compression is measured on are small, whole and what their cards say."""

from __future__ import annotations

import json

import pytest

from tests._cache import ROOT

FOLDER = ROOT / "benchmarks" / "lms"
NAMES = ("tiny-qwen2", "tiny-qwen3", "tiny-qwen3-long")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_has_the_figures_of_the_training(name: str) -> None:
    facts = json.loads((FOLDER / name / "training.json").read_text())
    card = (FOLDER / name / "MODEL_CARD.md").read_text()

    for key in ("parameters", "training_tokens", "steps", "tokens_seen", "heldout_bytes"):
        assert f"{facts[key]:,}" in card, key
    for key in ("heldout_bits_per_byte", "python", "torch", "transformers"):
        assert str(facts[key]) in card, key


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_bfloat16_and_at_most_twelve_megabytes(name: str) -> None:
    weights = FOLDER / name / "model.safetensors"
    config = json.loads((FOLDER / name / "config.json").read_text())
    facts = json.loads((FOLDER / name / "training.json").read_text())

    assert weights.stat().st_size <= 12_000_000
    assert weights.stat().st_size == pytest.approx(2 * facts["parameters"], rel=0.01)
    assert facts["parameters"] >= 5_000_000
    assert config["dtype"] == "bfloat16"


def test_the_three_architectures_differ() -> None:
    embedded = json.loads((ROOT / "models" / "tiny_coder" / "config.json").read_text())
    configs = [json.loads((FOLDER / name / "config.json").read_text()) for name in NAMES]

    assert len({config["model_type"] for config in [embedded, *configs]}) == 3
    assert {config["tie_word_embeddings"] for config in configs} == {True, False}
