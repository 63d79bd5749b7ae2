"""What is known of a compiled graph, in a small file beside it: a wrong one is found before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.io import digest_of, read_json

__all__ = ["CompiledFile"]


@dataclass(frozen=True)
class CompiledFile:
    """A `file` that a runtime made of the graph beside it, with digests of both.

    `runtime` is what it was compiled by and for; it is loaded where that is the same. `settings` are the
    target's.
    """

    file: str
    digest: str
    graph: str
    runtime: dict[str, str]
    settings: dict[str, Any]

    @classmethod
    def of(
        cls, path: Path, file: Path, runtime: Mapping[str, str], settings: Mapping[str, Any]
    ) -> CompiledFile:
        """What there is to know of `file`, made of the graph at `path`."""
        return cls(file.name, digest_of(file), digest_of(path), dict(runtime), dict(settings))

    def write(self, path: Path) -> None:
        """Write it beside the graph at `path`."""
        _place(path).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def beside(cls, path: Path) -> CompiledFile | None:
        """What lies beside the graph at `path`, None where nothing does. `BadInput` for no such thing."""
        place = _place(path)
        try:
            found = read_json(place)
        except FileNotFoundError:
            return None
        try:
            made = cls(**found)
        except TypeError as error:
            raise BadInput(
                f"{place} does not describe a compiled graph: {error}", hint=_remedy(place)
            ) from error
        if "/" in made.file or made.file in ("", ".", ".."):
            raise BadInput(f"{place} names a file that is not beside it: {made.file!r}", hint=_remedy(place))
        return made

    def checked(self, path: Path, here: Mapping[str, str]) -> Path:
        """The compiled file of the graph at `path`, where the runtime is as it is `here`.

        `BadInput`, with what to do, where it is missing, cut, another one, made of another graph, or for
        another runtime or device.
        """
        place = path.with_name(self.file)
        remedy = _remedy(_place(path))
        if not place.is_file():
            raise BadInput(f"{place} is missing", hint=remedy)
        if digest_of(place) != self.digest:
            raise BadInput(f"{place} is not the file that was compiled: it was cut or swapped", hint=remedy)
        if digest_of(path) != self.graph:
            raise BadInput(f"{place} was compiled from another graph than {path.name}", hint=remedy)
        for key, value in self.runtime.items():
            if here.get(key) != value:
                raise BadInput(
                    f"{place} was compiled for {key} {value}, and here it is {here.get(key, 'unknown')}",
                    hint=remedy,
                )
        return place


def _place(path: Path) -> Path:
    return path.with_name(f"{path.stem}.compiled.json")


def _remedy(place: Path) -> str:
    return (
        f"Make the package again; or remove {place.name}: {place.name.partition('.')[0]}.onnx is then "
        "compiled whenever it is loaded."
    )
