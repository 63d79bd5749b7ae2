"""The files and bytes that a package is made from."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from graphopt.export import FOLDER, Source
from graphopt.io import digest_of
from graphopt.ir import Expr, FileRange, lazy

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FileDigests", "files_behind", "stored_bytes", "weight_files"]


class FileDigests:
    """Digests of files, computed on a thread beside the export and the passes, most of which need but one.

    A context, at whose end those that nobody waited for are given up.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._unwanted = threading.Event()
        self._begun: dict[Path, Future[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._unwanted.set()
        self._pool.shutdown(cancel_futures=True)

    def begin(self, paths: Iterable[Path]) -> None:
        """Compute those of `paths` that are not begun, after all that are."""
        for path in paths:
            if path not in self._begun:
                self._begun[path] = self._pool.submit(digest_of, path, unwanted=self._unwanted)

    def of(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Wait for those of `files`, by their names."""
        self.begin(files.values())
        return {name: self._begun[path].result() for name, path in files.items()}


def weight_files(source: Source) -> list[Path]:
    """The files of a folder that its weights are in by their names, before anybody has read them."""
    return sorted(source.path.glob("model*.safetensors")) if source.kind == FOLDER else []


def files_behind(source: Source, models: Sequence[ir.Model]) -> dict[str, Path]:
    """The files that a source's graphs and weights come from, by their name in the lock."""
    alone = source.path.is_file()
    files = {source.path} if alone else {p for p in source.path.glob("*.json") if p.is_file()}
    named = {path.name: path for path in files}
    found = {leaf.path.name: leaf.path for leaf in _leaves(models) if isinstance(leaf, FileRange)}
    return dict(sorted((named | found).items()))


def stored_bytes(models: Sequence[ir.Model]) -> int:
    """Bytes of the weights as the source's files hold them: bf16 where a graph upcasts it."""
    return sum({leaf.identity: leaf.nbytes for leaf in _leaves(models)}.values())


def _leaves(models: Sequence[ir.Model]) -> Iterator[Expr]:
    for model in models:
        for graph in (model.graph, *model.graph.subgraphs()):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    yield from lazy(value.const_value).leaves()
