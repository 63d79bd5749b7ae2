"""Tokens of a new text, one by one, into the pieces of it that they complete."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Pieces"]

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_LETTERS = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}
"""The characters that stand for bytes in the vocabularies of byte-level tokenizers (GPT-2's)."""


class Pieces:
    """What the tokens of one text say, without special tokens, as soon as it is certain.

    The pieces together are what the library decodes, but that bytes which are no UTF-8 become U+FFFD on their
    own: the library gives up all bytes beside them, too, where a vocabulary holds single bytes (byte
    fallback).
    """

    def __init__(self, library: Tokenizer) -> None:
        self._library = library
        decoder = json.loads(library.decoder.__getstate__()) if library.decoder else {}
        steps = decoder.get("decoders", [decoder])
        kinds = [step.get("type") for step in steps]
        self._byte_level = kinds == ["ByteLevel"]
        self._byte_fallback = "ByteFallback" in kinds
        special = library.get_added_tokens_decoder()
        self._special = {token for token, added in special.items() if added.special}
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")
        self._last: list[int] = []

    def add(self, token: int) -> str:
        """What `token` completes, which may be nothing."""
        word = self._library.id_to_token(token)
        if word is None or token in self._special:
            return ""
        raw = self._raw(word)
        if raw is not None and (self._last or not raw.isascii()):
            piece = self._bytes.decode(raw)
        else:
            # After the token before: it may open with a space that a text does not begin with.
            before = self._text(self._last)
            piece = self.end() + self._text([*self._last, token]).removeprefix(before)
        self._last = [token]
        return piece

    def end(self) -> str:
        """What is left where the text ends: U+FFFD for a character of which bytes are missing."""
        return self._bytes.decode(b"", final=True)

    def of(self, tokens: Iterable[int]) -> Iterator[str]:
        """Each piece of a text that ends with `tokens`, as they come."""
        for token in tokens:
            if piece := self.add(token):
                yield piece
        if piece := self.end():
            yield piece

    def _raw(self, word: str) -> bytes | None:
        """The bytes that a token stands for; None where it stands for text."""
        if self._byte_level:
            known = all(letter in _LETTERS for letter in word)
            return bytes(_LETTERS[letter] for letter in word) if known else word.encode()
        byte = _BYTE.fullmatch(word) if self._byte_fallback else None
        return bytes([int(byte[1], 16)]) if byte else None

    def _text(self, tokens: list[int]) -> str:
        return str(self._library.decode(tokens, skip_special_tokens=True))
