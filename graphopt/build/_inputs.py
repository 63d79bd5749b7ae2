"""The files and bytes that a package is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.export import Source
from graphopt.io import digest_of
from graphopt.ir import Expr, FileRange, lazy

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FileDigests", "files_behind", "stored_bytes"]


class FileDigests:
    """Digests of files by name, computed on a thread beside the passes, most of which need but one."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._pending = {name: pool.submit(digest_of, path) for name, path in files.items()}
        pool.shutdown(wait=False)

    def all(self) -> dict[str, str]:
        """Wait for all of them."""
        return {name: digest.result() for name, digest in self._pending.items()}


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
