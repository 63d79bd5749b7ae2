"""Whether two models can be compared at all: what they take, which words they know, and how they read."""

from __future__ import annotations

from pathlib import Path

from graphopt.errors import BadInput
from graphopt.evaluate._sides import PackageSide, Side
from graphopt.interface import Interface
from graphopt.io import digest_of
from graphopt.runtime import Tokenizer

__all__ = ["require_comparable"]

LOGITS = "logits"
PROBE = 4096
"""Characters of the text that both tokenizers read: a thousand tokens, of which few vocabularies agree in
all."""


def require_comparable(package: PackageSide, other: Side, text: str, *, generates: bool) -> None:
    """Raise `BadInput` where `other` is no model that `package` can be compared with on `text`.

    Outputs may differ: that is for measurements to find. `text` is empty where it is not text that they take.
    """
    own = package.interface
    if generates:
        _require_vocabulary(package, other)
    else:
        _require_interface(package, other)
    if own is not other.interface and not {s.name for s in own.outputs} & {
        s.name for s in other.interface.outputs
    }:
        raise BadInput(
            f"{package.name} is another model than {other.name}: they have no output in common",
            hint=f"The one gives {_names(own, 'outputs')}; the other {_names(other.interface, 'outputs')}.",
        )
    if text and other.folder is not None and package.folder is not None:
        _require_tokenizer(package.folder, other.folder, other.name, text[:PROBE])


def _require_vocabulary(package: PackageSide, other: Side) -> None:
    specs = package.interface.output(LOGITS), other.interface.output(LOGITS)
    if specs[1] is None:
        raise BadInput(
            f"{other.name} gives no logits: it is not a causal language model",
            hint=f"It gives {_names(other.interface, 'outputs')}.",
        )
    sizes = [spec.dims[-1] for spec in specs if spec is not None and spec.dims]
    if len(sizes) == 2 and all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]:
        raise BadInput(
            f"{other.name} has a vocabulary of {sizes[1]} tokens, {package.name} one of {sizes[0]}",
            hint="The vocabularies differ: compare a package with the model it was made from.",
        )


def _require_interface(package: PackageSide, other: Side) -> None:
    own = {spec.name: spec.dtype for spec in package.interface.inputs}
    theirs = {spec.name: spec.dtype for spec in other.interface.inputs}
    missing = sorted(theirs.keys() - own.keys())
    if missing:
        raise BadInput(
            f"{other.name} takes an input {missing[0]!r}, which {package.name} has not",
            hint=f"The interfaces differ: {package.name} takes {_names(package.interface, 'inputs')}.",
        )
    wrong = next((name for name in theirs if theirs[name] != own[name]), None)
    if wrong is not None:
        raise BadInput(f"{wrong} is {theirs[wrong]} in {other.name} and {own[wrong]} in {package.name}")


def _require_tokenizer(folder: Path, other: Path, name: str, text: str) -> None:
    files = [place / "tokenizer.json" for place in (folder, other)]
    if not all(file.is_file() for file in files) or digest_of(files[0]) == digest_of(files[1]):
        return
    if Tokenizer(folder).plain(text) != Tokenizer(other).plain(text):
        raise BadInput(
            f"{name} has another tokenizer than {folder}: they give other tokens for one text",
            hint="Compare a package with the model it was made from.",
        )


def _names(interface: Interface, side: str) -> str:
    return ", ".join(spec.name for spec in getattr(interface, side)[:8])
