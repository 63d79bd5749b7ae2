"""Texts for models with a head, out of a file of JSON lines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from graphopt.errors import BadInput
from graphopt.evaluate._examples import Call, Example, Examples
from graphopt.evaluate._texts import read_text
from graphopt.interface import Interface
from graphopt.io import digest_of, nearest
from graphopt.runtime import FramedText, Tokenizer

__all__ = ["Kind", "TextLabels", "read_lines"]

LONGEST = 384
"""Tokens of a text, or of a question with its context, that are kept: what BERT is measured with on SQuAD."""
NO_LABEL = -100
"""The label of a token that has none, as transformers and PyTorch have it."""

Kind = Literal["text", "tokens", "question"]
"""What a line is: a text with a label, words with tags, a question with a context and its answers."""
_NEEDED = {"text": ("text",), "tokens": ("tokens",), "question": ("question", "context")}
_FORMS = {
    "text": '{"text": "...", "label": "..."}, with "text_pair" where a label is of two texts',
    "tokens": '{"tokens": ["..."], "tags": ["..."]} or {"text": "..."}',
    "question": '{"question": "...", "context": "...", "answers": ["..."]}',
}


class _Squad(BaseModel):
    text: list[str]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    text_pair: str | None = None
    label: int | str | list[int | str] | None = None
    tokens: list[str] | None = None
    tags: list[int | str] | None = None
    question: str | None = None
    context: str | None = None
    answers: list[str] | _Squad | None = None
    domain: str = ""


class TextLabels:
    """The labels of a model by name, as its config.json (`label2id`) has them. `several`: an input may have
    any number of them."""

    def __init__(self, config: Mapping[str, Any], *, several: bool) -> None:
        named = config.get("label2id") or {name: i for i, name in (config.get("id2label") or {}).items()}
        self._numbers = {str(name): int(i) for name, i in named.items()}
        self._several = several

    def number(self, label: int | str, where: str) -> int:
        """The number of `label`. `BadInput` for a name that the model does not know."""
        if isinstance(label, int):
            return label
        if label not in self._numbers:
            meant = nearest(label, self._numbers)
            hint = (
                f"Did you mean {meant!r}?"
                if meant
                else f"It has {', '.join(self._numbers) or 'none by name'}."
            )
            raise BadInput(f"{where}: the model has no label {label!r}", hint=hint)
        return self._numbers[label]

    def of_text(self, given: int | str | list[int | str], where: str) -> NDArray[np.int64]:
        """int64[1], or where an input may have several by class whether it has it."""
        chosen = [self.number(label, where) for label in (given if isinstance(given, list) else [given])]
        if self._several:
            return np.isin(np.arange(len(self._numbers)), chosen).astype(np.int64)
        if len(chosen) != 1:
            raise BadInput(f"{where}: there are {len(chosen)} labels, and the model gives one")
        return np.asarray(chosen, np.int64)


def read_lines(
    path: Path,
    kind: Kind,
    *,
    tokenizer: Tokenizer,
    interface: Interface,
    labels: TextLabels,
    positions: int | None,
) -> Examples:
    """The examples at `path`, one a line, or of a .txt file one a line of text.

    Texts are cut at 384 tokens and `positions`. `BadInput` names the line of what is wrong.
    """
    longest = min(LONGEST, positions or LONGEST)
    calls, cut = [], 0
    for number, text in enumerate(read_text(path).content.splitlines(), start=1):
        if not text.strip():
            continue
        where = f"{path}:{number}"
        line = _Line(text=text) if path.suffix != ".jsonl" else _parsed(text, where)
        framed = _framed(line, kind, tokenizer, longest, where)
        cut += len(framed.ids) == longest
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        calls.append(Call(_feeds(framed, interface), (_example(line, kind, framed, labels, digest, where),)))
    labelled = {call.examples[0].labels is None and call.examples[0].answers is None for call in calls}
    if len(labelled) != 1:
        raise BadInput(
            f"{path}: some lines have labels and some have none", hint="Give all of them, or none."
        )
    notes = (f"{cut} texts of {path.name} have {longest} tokens or were cut to so many",) if cut else ()
    return Examples(path.name, digest_of(path), tuple(calls), notes)


def _parsed(text: str, where: str) -> _Line:
    try:
        return _Line.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][:1])
        meant = nearest(field, _Line.model_fields) if first["type"] == "extra_forbidden" else None
        hint = f"Did you mean {meant!r}?" if meant else "A line is a JSON object."
        raise BadInput(f"{where}: {field}: {first['msg']}".replace(": :", ":"), hint=hint) from error


def _framed(line: _Line, kind: Kind, tokenizer: Tokenizer, longest: int, where: str) -> FramedText:
    for name in _NEEDED[kind]:
        if getattr(line, name) is None and not (name == "tokens" and line.text is not None):
            raise BadInput(f"{where} has no {name!r}", hint=f"A line for this model is {_FORMS[kind]}.")
    if kind == "question":
        return tokenizer.frame(line.question or "", line.context, longest=longest)
    if kind == "tokens" and line.tokens is not None:
        if line.tags is not None and len(line.tags) != len(line.tokens):
            raise BadInput(f"{where} has {len(line.tokens)} tokens and {len(line.tags)} tags")
        return tokenizer.frame(line.tokens, longest=longest)
    return tokenizer.frame(line.text or "", line.text_pair, longest=longest)


def _feeds(framed: FramedText, interface: Interface) -> dict[str, NDArray[Any]]:
    ids = np.asarray([framed.ids], np.int64)
    known = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.asarray([framed.segments], np.int64),
    }
    for spec in interface.inputs:
        if spec.name not in known:
            raise BadInput(
                f"the model takes {spec.name!r}, which does not follow from a text",
                hint="Give inputs with --data FILE.npz.",
            )
    return {spec.name: known[spec.name].astype(spec.dtype) for spec in interface.inputs}


def _example(
    line: _Line, kind: Kind, framed: FramedText, labels: TextLabels, digest: str, where: str
) -> Example:
    if kind == "text":
        known = None if line.label is None else labels.of_text(line.label, where)
        return Example(digest, line.domain, labels=known)
    if kind == "tokens":
        places, tags = _tagged(line, framed, labels, where)
        return Example(digest, line.domain, places=places, labels=tags)
    answers = line.answers.text if isinstance(line.answers, _Squad) else line.answers
    return Example(
        digest,
        line.domain,
        places=np.asarray([part == 1 for part in framed.parts]),
        answers=None if answers is None else tuple(answers),
        context=line.context or "",
        characters=framed.characters,
    )


def _tagged(
    line: _Line, framed: FramedText, labels: TextLabels, where: str
) -> tuple[NDArray[np.bool_], NDArray[np.int64] | None]:
    """The tokens that count and their labels: of a word its first, of a text that is not in words all."""
    places = np.asarray([part is not None for part in framed.parts])
    if line.tokens is None:
        return places, None
    before: Sequence[int | None] = (None, *framed.words[:-1])
    places &= np.asarray([word != last for word, last in zip(framed.words, before, strict=True)])
    if line.tags is None:
        return places, None
    tags = np.full(len(framed.ids), NO_LABEL, np.int64)
    for at in np.flatnonzero(places):
        word = framed.words[at]
        assert word is not None
        tags[at] = labels.number(line.tags[word], where)
    return places, tags
