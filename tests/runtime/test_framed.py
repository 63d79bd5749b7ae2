"""Texts as tokens with where each comes from (text, word, characters), and how they are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from graphopt import BadInput
from graphopt.runtime import Tokenizer

WORDS = ["[CLS]", "[SEP]", "[UNK]", "what", "is", "it", "a", "##b", "cat"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """Word pieces, framed as BERT frames them."""
    library = Library(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    library.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path)


def test_a_question_and_its_context(tokenizer: Tokenizer) -> None:
    framed = tokenizer.frame("what is", "it  is ab")
    assert [WORDS[i] for i in framed.ids] == ["[CLS]", "what", "is", "[SEP]", "it", "is", "a", "##b", "[SEP]"]
    assert framed.segments == (0, 0, 0, 0, 1, 1, 1, 1, 1)
    assert framed.parts == (None, 0, 0, None, 1, 1, 1, 1, None)
    assert framed.characters[4:8] == ((0, 2), (4, 6), (7, 8), (8, 9))


def test_words_keep_their_numbers(tokenizer: Tokenizer) -> None:
    framed = tokenizer.frame(["cat", "ab", "it"])
    assert [WORDS[i] for i in framed.ids] == ["[CLS]", "cat", "a", "##b", "it", "[SEP]"]
    assert framed.words == (None, 0, 1, 1, 2, None)


def test_the_end_of_the_context_is_cut_and_the_frame_stays(tokenizer: Tokenizer) -> None:
    framed = tokenizer.frame("what is", "it is ab", longest=6)
    assert [WORDS[i] for i in framed.ids] == ["[CLS]", "what", "is", "[SEP]", "it", "[SEP]"]
    assert [WORDS[i] for i in tokenizer.frame("what is it", longest=4).ids] == [
        "[CLS]",
        "what",
        "is",
        "[SEP]",
    ]
    assert len(tokenizer.frame("what is", "it is ab").ids) == 9  # the next text is whole again


def test_a_question_that_leaves_no_room_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadInput, match="cannot be cut to 4 tokens"):
        tokenizer.frame("what is it", "a cat", longest=4)
