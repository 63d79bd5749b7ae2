"""What models that generate no text are measured on: lines of text, arrays of a file, random legal inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._bindings import SEED, Bindings, Undecided
from graphopt.evaluate._corpus import Corpus, Window, digest_of_tokens, in_turns
from graphopt.families import Case, InputDomain, meeting
from graphopt.interface import Arrays, Interface
from graphopt.io import read_json
from graphopt.package import RunnablePackage
from graphopt.runtime import Tokenizer

__all__ = ["Call", "calls_of_text", "domain_of", "lines", "other_calls", "takes_text", "text_feeds"]

LONGEST = 128
"""Tokens of a line that count: about a paragraph, as encoders are fed."""
_OF_TEXT = {"input_ids", "attention_mask", "token_type_ids"}

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Call:
    """Feeds, and the text that they are of, which has no tokens where they are of none."""

    window: Window
    feeds: Arrays


def takes_text(package: RunnablePackage) -> bool:
    """Whether lines of text can be turned into all that the model takes."""
    names = {spec.name for spec in package.interface().inputs}
    return "input_ids" in names and names <= _OF_TEXT and (package.path / "tokenizer.json").is_file()


def lines(corpus: Corpus, tokenizer: Tokenizer) -> Iterator[Window]:
    """Each line that holds something, framed as the model expects, at most 128 tokens of it.

    Documents take turns. Lines of one text are documents of their own, and one that was there before is left
    out.
    """
    seen: set[str] = set()
    texts = [((d, line) for line in filter(str.strip, d.text.splitlines())) for d in in_turns(corpus)]
    for document, line in filter(None, itertools.chain.from_iterable(itertools.zip_longest(*texts))):
        ids = np.asarray(tokenizer.framed(line)[:LONGEST], np.int64)
        name = digest_of_tokens(ids)
        if not corpus.is_one_text:
            yield Window(document.name, document.domain, ids)
        elif name not in seen:
            seen.add(name)
            yield Window(name, document.domain, ids)


def calls_of_text(package: RunnablePackage, corpus: Corpus) -> Iterator[Call]:
    """`lines` of `corpus`, each as a call of its own."""
    for window in lines(corpus, Tokenizer(package.path)):
        row = window.tokens[None]
        yield Call(window, text_feeds(package.interface(), row, np.ones_like(row)))


def text_feeds(interface: Interface, tokens: Tokens, mask: Tokens) -> dict[str, Tokens]:
    """Feeds for a batch of texts int64[B, S], of which those places count where `mask` is 1."""
    known = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    return {spec.name: known[spec.name] for spec in interface.inputs}


def other_calls(package: RunnablePackage, data: Path | None) -> tuple[str, Iterator[Arrays]]:
    """Calls that are no text, and what to call them: those of an .npz file, or random legal ones.

    `BadInput` where nobody knows which are legal.
    """
    interface = package.interface()
    if data is not None and data.suffix == ".npz":
        return data.name, (case.feeds for case in Bindings.parse(data, ()).cases(interface))
    domain = domain_of(package)
    if domain is None:
        raise BadInput(f"legal inputs of {package.path} are unknown", hint="Give some with --data FILE.npz.")
    return "random legal inputs", (case.feeds for case in _unpadded(domain, package))


def domain_of(package: RunnablePackage) -> InputDomain | None:
    """Legal inputs of the model `package` was made from; None where nobody said which are."""
    config = package.path / "config.json"
    if package.manifest.family is None:
        sized = _Sized(package.interface(), Bindings(dims=package.manifest.sizes))
        return sized if sized.is_decided() else None
    if not config.is_file():
        return None
    return package.family().input_domain(package.interface(), read_json(config))


@dataclass(frozen=True)
class _Sized(InputDomain):
    """Random inputs of the sizes that somebody said are legal."""

    interface: Interface
    bindings: Bindings

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        return self.bindings.cases(self.interface, seed=int(rng.integers(1 << 31)))

    def is_decided(self) -> bool:
        """Whether sizes are all that one has to know."""
        try:
            next(self.bindings.cases(self.interface))
        except Undecided:
            return False
        return True


def _unpadded(domain: InputDomain, package: RunnablePackage) -> Iterator[Case]:
    """The legal calls without padding that meet what the package assumes."""
    cases = meeting(package.assumptions(), domain.cases(np.random.default_rng(SEED)))
    return (case for case in cases if case.padding == "none")
