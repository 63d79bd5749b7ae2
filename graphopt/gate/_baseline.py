"""What a package is compared with: another package, a model, or the stored result of an earlier gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.export import FOLDER, resolve_source
from graphopt.gate._result import read_result
from graphopt.interface import Interface
from graphopt.io import digest_of, read_json
from graphopt.package import MANIFEST, RunnablePackage
from graphopt.report import GateReport

__all__ = ["Baseline", "find_baseline"]

_ARCHITECTURE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
"""Sizes that no optimization changes, as config.json and genai_config.json name them."""
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Baseline:
    """`text` is what the user called it. With neither `package` nor `result` it is a source, whose files are
    at `path`."""

    text: str
    path: Path
    package: RunnablePackage | None = None
    result: GateReport | None = None

    @property
    def is_source(self) -> bool:
        return self.package is None and self.result is None

    def require_like(self, package: RunnablePackage) -> None:
        """Raise `BadInput` where this is another model than `package` was made from, or has another
        tokenizer."""
        if self.result is not None:
            _same(self.text, "task", self.result.provenance.task, package.manifest.task)
            return
        if self.package is not None:
            _same(self.text, "task", self.package.manifest.task, package.manifest.task)
            _same_interface(self.text, self.package.interface(), package.interface())
        if self.path.is_dir():
            _same_architecture(self.text, _architecture(self.path), _architecture(package.path))
            _same_tokenizer(self.text, self.path, package.path)


def find_baseline(text: str, trust_remote_code: bool) -> Baseline:
    """The package, result file or source that `text` names. `BadInput` where it is none."""
    path = Path(text)
    if (path / MANIFEST).is_file():
        return Baseline(text, path, package=RunnablePackage.load(path))
    if path.suffix == ".json":
        return Baseline(text, path, result=read_result(path))
    source = resolve_source(text, trust_remote_code=trust_remote_code)
    return Baseline(text, source.path if source.kind == FOLDER else source.path.absolute())


def _architecture(folder: Path) -> Mapping[str, Any]:
    """What config.json says of it, or genai_config.json where a package has only that."""
    if (folder / "config.json").is_file():
        return read_json(folder / "config.json")
    if not (folder / "genai_config.json").is_file():
        return {}
    model = read_json(folder / "genai_config.json").get("model", {})
    return {**model.get("decoder", {}), "vocab_size": model.get("vocab_size")}


def _same_architecture(text: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    for name in _ARCHITECTURE:
        if name in ours and name in theirs:
            _same(text, name, ours[name], theirs[name])


def _same_interface(text: str, ours: Interface, theirs: Interface) -> None:
    """That of the models the packages were made from: what became of it is a gate's to say."""
    for side in ("inputs", "outputs"):
        mine, other = ({spec.name for spec in getattr(one, side)} for one in (ours, theirs))
        for name in sorted(mine ^ other):
            owner, lacks = (text, "the package") if name in mine else ("the package", text)
            raise BadInput(
                f"{text} was made from a model with another interface: {owner} has an {side[:-1]} {name!r} "
                f"that {lacks} has not",
                hint="Compare packages of one model, exported for one task.",
            )


def _same_tokenizer(text: str, one: Path, other: Path) -> None:
    files = one / _TOKENIZER, other / _TOKENIZER
    if all(file.is_file() for file in files) and digest_of(files[0]) != digest_of(files[1]):
        raise BadInput(
            f"{text} has another tokenizer than the package: tokens of one mean nothing to the other",
            hint="Compare packages of one model, with one tokenizer.json.",
        )


def _same(text: str, name: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise BadInput(
            f"{text} is another model than the package was made from: its {name} is {ours}, not {theirs}",
            hint="A baseline is the same model: its source, or another package of it.",
        )
