"""Text as a model's tokens, and legal calls filled with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from graphopt import BadInput
from graphopt.evaluate._corpus import one_text, sequences
from graphopt.evaluate._text_cases import REPEATS, on_text
from graphopt.evaluate._texts import Text, built_in_text, read_text
from graphopt.families import Case
from graphopt.interface import Interface, TensorSpec
from graphopt.runtime import Tokenizer, context_length


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A folder with a tokenizer of a token a word, which puts <s> before a text."""
    library = Library(
        models.WordLevel({"<s>": 0, "<unk>": 1, **{c: 2 + i for i, c in enumerate("abcdefgh")}}, "<unk>")
    )
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    library.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_every_sequence_begins_as_the_model_expects(words: Path) -> None:
    found = list(sequences(one_text(Text("t", "a b c d e f g")), Tokenizer(words), tokens=7, context=4))

    assert [s.tokens.tolist() for s in found] == [[0, 2, 3, 4], [0, 5, 6, 7]]
    assert Tokenizer(words).opening() == [0]


def test_no_more_tokens_than_asked_for(words: Path) -> None:
    found = list(
        sequences(one_text(Text("t", "a b c d e f g " * 100)), Tokenizer(words), tokens=10, context=6)
    )

    assert [len(s.tokens) - 1 for s in found] == [5, 5]


def test_a_folder_without_tokenizer_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="is not a tokenizer"):
        Tokenizer(tmp_path)


def test_the_built_in_text_is_the_held_out_one(tiny_coder: Path) -> None:
    text = built_in_text()

    assert "tiny-coder" in text.name
    assert text.content == (tiny_coder / "heldout.txt").read_text()


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe\x00"])
def test_a_file_that_is_not_text_is_bad_input(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.txt").write_bytes(content)

    with pytest.raises(BadInput, match=r"t\.txt"):
        read_text(tmp_path / "t.txt")


@pytest.mark.parametrize("content", [None, "{", '{"model": {}}', '{"model": {"context_length": 64}}'])
def test_the_context_length_is_known_or_not(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "genai_config.json").write_text(content)

    assert context_length(tmp_path) == (64 if content and "64" in content else None)


def padded() -> Case:
    """Two new tokens after three cached ones; the first row has one token less, padded on the left."""
    return Case(
        "chunk",
        {
            "input_ids": np.full((2, 2), 99),
            "attention_mask": np.array([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]),
            "position_ids": np.array([[2, 3], [3, 4]]),
            "past_key_values.0.key": np.zeros((2, 1, 3, 4), np.float32),
        },
        {},
    )


INTERFACE = Interface(
    (
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("past_key_values.0.key", "float32", ("batch", 1, "past", 4)),
    ),
    (),
)
STATES = {"past_key_values.0.key": "present.0.key"}


def test_cases_are_filled_with_consecutive_text_and_the_past_of_the_reference() -> None:
    asked: list[Mapping[str, np.ndarray]] = []

    def reference(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(feeds)
        return {
            "present.0.key": np.repeat(feeds["input_ids"][:, None, :, None], 4, axis=3).astype(np.float32)
        }

    first, *others = on_text([padded()], range(10, 40), reference, INTERFACE, STATES)

    assert len(others) == REPEATS - 1
    assert first.feeds["input_ids"].tolist() == [[12, 13], [17, 18]]
    assert first.feeds["past_key_values.0.key"][:, 0, :, 0].tolist() == [[0, 10, 11], [14, 15, 16]]
    assert asked[0]["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert asked[0]["position_ids"].tolist() == [[0, 0, 1], [0, 1, 2]]
    assert asked[0]["past_key_values.0.key"].shape == (2, 1, 0, 4)
    assert others[0].feeds["input_ids"].tolist() == [[21, 22], [26, 27]]


def test_text_wraps_around_and_padding_keeps_its_tokens() -> None:
    case = padded()
    case.feeds["attention_mask"][0, 4] = 0  # type: ignore[index]
    results = {"present.0.key": np.zeros((2, 1, 3, 4), np.float32)}
    first, *_ = on_text([case], [7, 8, 9], lambda feeds: results, INTERFACE, STATES)

    assert first.feeds["input_ids"].tolist() == [[9, 99], [7, 8]]


def test_a_state_of_one_size_is_zero_before_the_text_and_then_the_references() -> None:
    case, state = padded(), TensorSpec("past_key_values.0.conv_state", "float32", ("batch", 3, 2))
    case.feeds[state.name] = np.ones((2, 3, 2), np.float32)  # type: ignore[index]
    asked: list[Mapping[str, np.ndarray]] = []

    def reference(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(feeds)
        return {"present.0.conv_state": np.full((2, 3, 2), 5.0, np.float32)}

    states = {state.name: "present.0.conv_state"}
    first, *_ = on_text([case], range(10, 40), reference, Interface((state,), ()), states)

    assert asked[0][state.name].shape == (2, 3, 2)
    assert not asked[0][state.name].any()
    assert (first.feeds[state.name] == 5.0).all()
