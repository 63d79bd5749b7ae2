"""Text generation: streamed, drawn with a seed, opened as the tokenizer says, not too long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from graphopt import BadInput
from graphopt.runtime import Decoder, Sampling
from tests.runtime.conftest import OPENING, SHAPE, change, opened, opens_texts, text_model

PROMPT = "def area(width, height):"


def greedy(folder: Path, prompt: str, count: int) -> str:
    """What decoding on onnxruntime itself says."""
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    decoder, tokens = Decoder(opened(folder)), []
    fed = library.encode(prompt).ids
    for _ in range(count):
        tokens.append(int(decoder.append(np.asarray(fed))[0, -1].argmax()))
        fed = tokens[-1:]
    return library.decode(tokens)


def test_the_answer_is_the_greedy_one(folder: Path) -> None:
    assert "".join(text_model(folder).generate(PROMPT, max_new_tokens=10)) == greedy(folder, PROMPT, 10)


def test_it_comes_in_pieces_and_later_prompts_do_not_see_earlier_ones(folder: Path) -> None:
    model = text_model(folder)
    pieces = list(model.generate(PROMPT, max_new_tokens=10))

    assert len(pieces) > 1
    assert pieces == list(model.generate(PROMPT, max_new_tokens=10))


def test_pieces_come_before_the_whole_is_done(folder: Path) -> None:
    answer = text_model(folder).generate(PROMPT, max_new_tokens=10)

    assert next(answer) + "".join(answer) == greedy(folder, PROMPT, 10)


@pytest.mark.parametrize("count", [1, 5])
def test_no_more_tokens_than_asked_for(folder: Path, count: int) -> None:
    assert "".join(text_model(folder).generate(PROMPT, max_new_tokens=count)) == greedy(folder, PROMPT, count)


def test_it_stops_at_the_end_token(own: Path) -> None:
    library = tokenizers.Tokenizer.from_file(str(own / "tokenizer.json"))
    text = text_model(own)
    whole = "".join(text.generate(PROMPT, max_new_tokens=8))
    end = Decoder(opened(own)).append(np.asarray(library.encode(PROMPT).ids)).argmax()
    config = json.loads((own / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = int(end)
    (own / "genai_config.json").write_text(json.dumps(config))

    assert len("".join(text_model(own).generate(PROMPT, max_new_tokens=8))) < len(whole)


def drawn(folder: Path, **options: Any) -> str:
    return "".join(text_model(folder).generate(PROMPT, max_new_tokens=10, sampling=Sampling(**options)))


def test_a_seed_repeats_a_draw(folder: Path) -> None:
    assert drawn(folder, temperature=1.0, seed=1) == drawn(folder, temperature=1.0, seed=1)
    assert drawn(folder, temperature=1.0, seed=1) != drawn(folder, temperature=1.0, seed=2)


@pytest.mark.parametrize("seed", [-1, 1 << 31])
def test_a_seed_that_would_not_repeat_a_draw_is_refused(seed: int) -> None:
    with pytest.raises(BadInput, match=str(seed)):
        Sampling(temperature=1.0, seed=seed)


def test_the_largest_seed(folder: Path) -> None:
    assert drawn(folder, temperature=1.0, seed=(1 << 31) - 1)


def test_without_a_seed_draws_differ(folder: Path) -> None:
    assert len({drawn(folder, temperature=1.0) for _ in range(4)}) > 1


@pytest.mark.parametrize("options", [{"temperature": 1.0, "top_p": 1e-6}, {"temperature": 1e-3}])
def test_little_freedom_is_the_greedy_answer(folder: Path, options: Mapping[str, float]) -> None:
    assert drawn(folder, **options, seed=1) == greedy(folder, PROMPT, 10)


def test_the_folders_own_search_settings_do_not_count(own: Path) -> None:
    change(own / "genai_config.json", search={"max_length": 12, "do_sample": True, "temperature": 9.0})

    assert "".join(text_model(own).generate(PROMPT, max_new_tokens=20)) == greedy(own, PROMPT, 20)


def test_a_text_begins_as_its_tokenizer_says(own: Path) -> None:
    plain = text_model(own).encode(PROMPT)
    opens_texts(own)
    model = text_model(own)

    assert model.encode(PROMPT) == [0, *plain]
    assert model.encode(OPENING + PROMPT) == [0, *plain]
    assert "".join(model.generate(PROMPT, max_new_tokens=6)) == greedy(own, PROMPT, 6)


def test_prompts_and_the_context(folder: Path) -> None:
    model = text_model(folder)
    fits, full = " x" * (SHAPE.positions - 1), " x" * SHAPE.positions
    assert [len(model.encode(text)) for text in (fits, full)] == [SHAPE.positions - 1, SHAPE.positions]

    assert len(list(model.generate(fits, max_new_tokens=100))) <= 1
    with pytest.raises(BadInput, match=f"has {SHAPE.positions} tokens, .* context is {SHAPE.positions}"):
        model.generate(full)


def test_an_empty_prompt(folder: Path) -> None:
    with pytest.raises(BadInput, match="empty"):
        text_model(folder).generate("")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("genai_config.json", "does not generate text"),
        ("tokenizer.json", r"no tokenizer\.json"),
        ("model.onnx", "onnxruntime cannot load"),
    ],
)
def test_incomplete_folders(own: Path, missing: str, message: str) -> None:
    (own / missing).unlink()

    with pytest.raises(BadInput, match=message):
        text_model(own)
