"""Results on disk, one JSON object a line, keyed by what they are of and the state of code and libraries."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

from tests._cache import ROOT, digest_of, source_digest

FOLDER = ROOT / "build" / "corpus"


@functools.cache
def code_state() -> str:
    """Digest of graphopt, its packs, the libraries' versions, and of the corpus itself."""
    return digest_of((ROOT / "tests" / "corpus").glob("*.py"), source_digest())


class Store:
    """What is known of each name. With `any_code`, results of earlier states of the code count as well."""

    def __init__(self, name: str, *, fresh: bool = False, any_code: bool = False) -> None:
        self.path = FOLDER / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            self.path.unlink(missing_ok=True)
        self._found: dict[str, dict[str, Any]] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            result = json.loads(line)
            if any_code or result["code"] == code_state():
                self._found[result["name"]] = result

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._found[name]

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Keep a result, on disk at once."""
        self._found[name] = {"code": code_state()} | result | {"name": name}
        with self.path.open("a") as stream:
            stream.write(json.dumps(self._found[name]) + "\n")

    def forget(self, names: Iterable[str]) -> None:
        """Have these found out again."""
        for name in names:
            self._found.pop(name, None)

    def results(self) -> list[dict[str, Any]]:
        """All of them."""
        return list(self._found.values())
