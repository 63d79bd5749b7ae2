"""Data to measure on, as documents: a text file, a file of JSON lines, or a folder of text files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from graphopt.errors import BadInput
from graphopt.evaluate._texts import Text, built_in_text, read_text
from graphopt.runtime import Tokenizer

__all__ = [
    "Corpus",
    "Document",
    "Window",
    "built_in_corpus",
    "corpus_of",
    "digest_of_tokens",
    "in_turns",
    "one_text",
    "read_corpus",
    "sequences",
    "windows",
]

WINDOW = 256
"""Tokens of a sequence: short, so that there are many to resample and their logits fit in memory.
Perplexities are higher than in long ones, of package and reference alike."""
_CHUNK = 1 << 20
"""Characters of a document that are tokenized at a time, up to the end of a line: a second's work."""


@dataclass(frozen=True)
class Document:
    """A text, and what kind of text it is, if the data says."""

    text: str
    domain: str = ""

    @property
    def name(self) -> str:
        """A digest of the text."""
        return _digest(self.text.encode())


@dataclass(frozen=True)
class Corpus:
    """Documents; `name` and `digest` say which. A corpus that `is_one_text` has one, and each window of that
    stands for a document of its own."""

    name: str
    digest: str
    documents: tuple[Document, ...]
    is_one_text: bool
    notes: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """Those that documents are of, in order; none where there is but one."""
        found = sorted({document.domain for document in self.documents})
        return tuple(found) if len(found) > 1 else ()

    @property
    def text(self) -> str:
        """All documents, one after the other."""
        return "\n".join(document.text for document in self.documents)


@dataclass(frozen=True)
class Window:
    """Tokens int64[S] that are run in one call, with the document that they are of."""

    document: str
    domain: str
    tokens: NDArray[np.int64]


def one_text(text: Text) -> Corpus:
    """A text whose windows or lines are the documents."""
    return Corpus(text.name, _digest(text.content.encode()), (Document(text.content),), is_one_text=True)


def built_in_corpus() -> Corpus:
    """The held-out text that ships with an embedded model: Python source."""
    return one_text(built_in_text())


def corpus_of(name: str, texts: Sequence[str]) -> Corpus:
    """`texts` as documents."""
    documents = tuple(dict.fromkeys(Document(text) for text in texts if text.strip()))
    digest = _digest(json.dumps([[d.name, d.domain] for d in documents]).encode())
    return Corpus(name, digest, documents, is_one_text=False)


def read_corpus(path: Path) -> Corpus:
    """The documents at `path`.

    A folder has one a `.txt` file, whose subfolder names its domain; a `.jsonl` file one a line, `{"text":
    ..., "domain": ...}` with the domain optional; any other file is one text. A document that is there twice
    counts once. `BadInput` where there is none, or a file is not text.
    """
    if path.is_dir():
        found = list(_in_folder(path))
    elif path.suffix == ".jsonl":
        found = list(_in_lines(path))
    else:
        return one_text(read_text(path))
    documents = tuple(dict.fromkeys(found))
    if not documents:
        raise BadInput(f"{path} holds no text", hint="A folder of data has .txt files, one a document.")
    digest = _digest(json.dumps([[d.name, d.domain] for d in documents]).encode())
    twice = len(found) - len(documents)
    notes = (f"{twice} documents of {path.name} are there twice and count once",) if twice else ()
    return Corpus(path.name, digest, documents, is_one_text=False, notes=notes)


def _in_folder(folder: Path) -> Iterator[Document]:
    for path in sorted(folder.rglob("*.txt")):
        parent = path.parent.relative_to(folder).as_posix()
        yield Document(read_text(path).content, "" if parent == "." else parent)


class _Line(BaseModel):
    text: str
    domain: str = ""


def _in_lines(path: Path) -> Iterator[Document]:
    for number, line in enumerate(read_text(path).content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            given = _Line.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(
                f"{path}:{number}: {first['msg']}",
                hint='A line is an object: {"text": "...", "domain": "..."}, the domain optional.',
            ) from error
        if given.text.strip():
            yield Document(given.text, given.domain)


def windows(
    corpus: Corpus, tokenizer: Tokenizer, context: int | None, longest: int = WINDOW
) -> Iterator[Window]:
    """The documents as tokens, in windows of at most `longest` and `context` that each begin as the model
    expects.

    First comes the first window of every document, domains taking turns, then the second of those that have
    one, and so on: whatever is measured first is of as many documents as there can be.
    """
    opening = tokenizer.opening()
    length = min(longest, context or longest) - len(opening)
    ids = _Ids(tokenizer)
    waiting = [(i, document) for i, document in enumerate(in_turns(corpus))]
    start = 0
    while waiting:
        left = []
        for index, document in waiting:
            piece, more = ids.piece(index, document, start, length)
            if len(piece) > 1:
                tokens = np.asarray([*opening, *piece], np.int64)
                name = digest_of_tokens(tokens) if corpus.is_one_text else document.name
                yield Window(name, document.domain, tokens)
            if more:
                left.append((index, document))
        waiting, start = left, start + length


def sequences(
    corpus: Corpus, tokenizer: Tokenizer, *, tokens: int, context: int | None, longest: int = WINDOW
) -> Iterator[Window]:
    """`windows` with `tokens` in all, what each begins with not counted."""
    opening = len(tokenizer.opening())
    for window in windows(corpus, tokenizer, context, longest):
        piece = window.tokens[: opening + tokens]
        tokens -= len(piece) - opening
        if len(piece) - opening > 1:
            yield Window(window.document, window.domain, piece)
        if tokens < 1:
            return


def in_turns(corpus: Corpus) -> list[Document]:
    """The documents, domains taking turns."""
    by_domain: Mapping[str, list[Document]] = {domain: [] for domain in corpus.domains or ("",)}
    for document in corpus.documents:
        by_domain[document.domain if corpus.domains else ""].append(document)
    longest = max(map(len, by_domain.values()))
    return [group[i] for i in range(longest) for group in by_domain.values() if i < len(group)]


class _Ids:
    """Tokens of documents, as far as they were asked for: a huge file is not tokenized whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, list[int]] = {}
        self._read: dict[int, int] = {}

    def piece(self, index: int, document: Document, start: int, length: int) -> tuple[list[int], bool]:
        """`length` tokens from `start`, and whether there are more."""
        text, ids = document.text, self._known.setdefault(index, [])
        while len(ids) <= start + length and self._read.get(index, 0) < len(text):
            at = self._read.get(index, 0)
            end = text.find("\n", at + _CHUNK)
            end = len(text) if end < 0 else end
            ids += self._tokenizer.plain(text[at:end])
            self._read[index] = end
        return ids[start : start + length], start + length < len(ids)


def digest_of_tokens(tokens: NDArray[np.int64]) -> str:
    """What names a document that is known by its tokens."""
    return _digest(tokens.astype("<i8").tobytes())


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
