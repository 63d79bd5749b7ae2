"""Streamed text is the decoded text, whatever the kind of tokenizer, and whatever bytes a model makes up."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, processors

from graphopt.runtime import Pieces

SPECIAL = tokenizers.AddedToken("<s>", special=True)
WORDS = ["▁", "▁▁", "▁a", "b", "▁the", "世", ".", "n't"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_fallback(*more: decoders.Decoder) -> tokenizers.Tokenizer:
    """As Llama 2's: pieces with marks for spaces, single bytes, and a first space that is dropped."""
    vocabulary = {word: i for i, word in enumerate([*WORDS, *BYTES])}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *more]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens([SPECIAL])
    return made


def byte_level() -> tokenizers.Tokenizer:
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, "Ġa", "ä½", "ĠðŁ", "é"]
    made = tokenizers.Tokenizer(models.BPE({word: i for i, word in enumerate(dict.fromkeys(words))}, []))
    made.decoder, made.post_processor = decoders.ByteLevel(), processors.ByteLevel()
    made.add_special_tokens([SPECIAL])
    made.add_tokens(["  ", "世"])
    return made


def metaspace() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram([(word, -1.0) for word in WORDS], 0))
    made.decoder = decoders.Metaspace()
    return made


def word_piece() -> tokenizers.Tokenizer:
    words = ["do", "##ing", "n", "'", "t", ".", "[UNK]", "##s", "世"]
    made = tokenizers.Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    return made


def words() -> tokenizers.Tokenizer:
    """Without any decoder: words with spaces between them."""
    return tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, "<unk>"))


def streamed(library: tokenizers.Tokenizer, tokens: list[int]) -> str:
    return "".join(Pieces(library).of(tokens))


@pytest.mark.parametrize("make", [byte_level, metaspace, word_piece, words])
def test_pieces_are_the_decoded_text(make: Callable[[], tokenizers.Tokenizer]) -> None:
    library = make()
    size = library.get_vocab_size()

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.integers(0, size), max_size=12))
    def check(tokens: list[int]) -> None:
        assert streamed(library, tokens) == library.decode(tokens)

    check()


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_bytes_that_are_no_text_spoil_nothing_beside_them(data: st.DataObject) -> None:
    library, plain = byte_fallback(decoders.Strip(" ", 1, 0)), byte_fallback()
    runs = st.lists(st.one_of(st.text(max_size=3).map(str.encode), st.binary(max_size=4)), max_size=3)
    token = st.one_of(st.integers(0, len(WORDS) - 1).map(lambda t: [t]), runs.map(b"".join).map(as_bytes))
    tokens = list(itertools.chain(*data.draw(st.lists(token, max_size=6))))
    parts = [
        bytes(t - len(WORDS) for t in run).decode(errors="replace") if is_byte else plain.decode(list(run))
        for is_byte, run in itertools.groupby(tokens, lambda t: t >= len(WORDS))
    ]

    assert streamed(library, tokens) == "".join(parts).removeprefix(" ")


def as_bytes(raw: bytes) -> list[int]:
    return [len(WORDS) + byte for byte in raw]


@pytest.mark.parametrize("text", ["世界 naïve", "🙂", "a 'b'"])
def test_text_in_single_bytes(text: str) -> None:
    library = byte_fallback(decoders.Strip(" ", 1, 0))

    assert streamed(library, as_bytes(text.encode())) == text


def test_a_character_comes_once_it_is_whole() -> None:
    pieces = Pieces(byte_fallback())

    assert [pieces.add(token) for token in as_bytes("a世".encode())] == ["a", "", "", "世"]
    assert [pieces.add(token) for token in as_bytes(b"\xe4\xb8")] == ["", ""]
    assert pieces.end() == "\ufffd"
    assert pieces.end() == ""
