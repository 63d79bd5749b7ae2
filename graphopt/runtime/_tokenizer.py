"""The tokenizer of a package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import BadInput
from graphopt.io import read_json
from graphopt.runtime._pieces import Pieces

__all__ = ["FramedText", "Tokenizer", "context_length"]


@dataclass(frozen=True)
class FramedText:
    """The tokens of a text or of two, framed as the model expects, and where each comes from.

    By token: its id, its segment (`token_type_ids`), which text it is of (None: the frame's own), which of
    the words of that, and which characters (begin, end).
    """

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    parts: tuple[int | None, ...]
    words: tuple[int | None, ...]
    characters: tuple[tuple[int, int], ...]


class Tokenizer:
    """The tokenizer.json in a folder. `BadInput` where there is none or it is damaged."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Library

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise BadInput(f"{folder} has no tokenizer.json: text cannot be turned into its tokens")
        try:
            self._library = Library.from_file(str(path))
        except Exception as error:  # the library raises no narrower one
            raise BadInput(f"{path} is not a tokenizer: {error}") from error
        self._library.no_truncation()
        self._library.no_padding()

    def plain(self, text: str) -> list[int]:
        """Token ids of `text` alone."""
        return list(self._library.encode(text, add_special_tokens=False).ids)

    def framed(self, text: str) -> list[int]:
        """Token ids of `text` with what the model expects around a text: [CLS] and [SEP], say."""
        return list(self._library.encode(text).ids)

    def frame(
        self, first: str | Sequence[str], second: str | None = None, *, longest: int | None = None
    ) -> FramedText:
        """`first`, a text or a text in words, and `second`, in at most `longest` tokens.

        What is cut off is the end of the last of the two. `BadInput` where `longest` leaves it nothing.
        """
        if longest is not None:
            strategy = "longest_first" if second is None else "only_second"
            self._library.enable_truncation(longest, strategy=strategy)
        try:
            words = not isinstance(first, str)
            found = self._library.encode(first, second, is_pretokenized=words)
        except Exception as error:  # the library raises no narrower one
            raise BadInput(f"a text cannot be cut to {longest} tokens: {error}") from error
        finally:
            self._library.no_truncation()
        return FramedText(
            tuple(found.ids),
            tuple(found.type_ids),
            tuple(found.sequence_ids),
            tuple(found.word_ids),
            tuple(found.offsets),
        )

    def word(self, token: int) -> str:
        """What `token` alone stands for, special or not."""
        return str(self._library.decode([token], skip_special_tokens=False))

    def opened(self, text: str) -> list[int]:
        """Token ids of `text` after what the tokenizer opens a text with, unless it begins so itself."""
        opening, ids = self.opening(), self.plain(text)
        return ids if ids[: len(opening)] == opening else [*opening, *ids]

    def prompt(self, text: str, context: int) -> list[int]:
        """Token ids of a text to go on with.

        `BadInput` where it is empty or leaves no room in a context of `context` tokens.
        """
        if not text:
            raise BadInput("the prompt is empty")
        tokens = self.opened(text)
        if len(tokens) >= context:
            raise BadInput(
                f"the prompt has {len(tokens)} tokens, the model's context is {context}",
                hint=f"Shorten it to at most {context - 1} tokens.",
            )
        return tokens

    def pieces(self) -> Pieces:
        """What turns the tokens of a new text, one by one, into the pieces of it that they complete."""
        return Pieces(self._library)

    def opening(self) -> list[int]:
        """What the model expects before a text: its beginning-of-sequence token, or nothing."""
        framed, plain = self.framed("a"), self.plain("a")
        return framed[: framed.index(plain[0])] if plain and plain[0] in framed else []

    def closing(self) -> list[int]:
        """What the model expects behind a text: [SEP], say, or nothing."""
        framed, plain = self.framed("a"), self.plain("a")
        return framed[framed.index(plain[-1]) + 1 :] if plain and plain[-1] in framed else []


def context_length(folder: Path) -> int | None:
    """The longest text, in tokens, that the text-generation package at `folder` was made for, if it says."""
    try:
        return int(read_json(folder / "genai_config.json")["model"]["context_length"])
    except (BadInput, OSError, ValueError, KeyError, TypeError):
        return None
