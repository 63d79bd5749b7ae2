"""Keys of entries: digests of everything that shapes a result, each step's chained to the one before."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from graphopt.cache._entry import state_of
from graphopt.io import code_digest, digest_of, module_code
from graphopt.ir import FileRange, lazy
from graphopt.package import versions
from graphopt.plugins import registry

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.export import Source
    from graphopt.pipeline import Pass
    from graphopt.targets import Target

__all__ = [
    "StepKeys",
    "call_key",
    "export_key",
    "model_key",
    "part_key",
    "plan_key",
    "result_key",
    "step_keys",
]

FORMAT = 1
"""Counts in every key: another number, and nothing that was stored is found."""
_SMALL = 1 << 20
"""Bytes up to which a file counts by its content: configurations do; weights would take as long as the
export."""
_READ_BY_EXPORT = ("*.json", "*.safetensors")


def export_key(source: Source, task: str) -> str | None:
    """The key of `source` as exported for `task`.

    Small files count by content, large ones by path, size, time of modification and inode: weights are not
    read. Besides, versions count, graphopt's own code and that of every pack of model families. None where
    that code cannot be found.
    """
    families = [
        module_code(origin.module) for origin in registry.origins() if origin.group == "graphopt.models"
    ]
    if None in families:
        return None
    return _digest(
        FORMAT,
        [str(source.path.resolve()), source.kind, task],
        {os.path.relpath(path, source.path): _state(path) for path in _files(source)},
        versions(),
        code_digest(Path(__file__).parent.parent),
        families,
    )


def part_key(export: str, role: str) -> str:
    """The key of the graph of that `role` where a source is exported, under the key `export`, as several."""
    return _digest(export, role)


def plan_key(export: str) -> str:
    """The key of a plan of the weights of a source that is exported under the key `export`."""
    return _digest(export, "plan")


def model_key(export: str, model: ir.Model, role: str) -> str:
    """The key of a `model` exported under the key `export`: its role counts, and the files of its weights.

    Which ones an .onnx file refers to is only known then.
    """
    paths = {
        leaf.path
        for graph in (model.graph, *model.graph.subgraphs())
        for value in graph.initializers.values()
        if value.const_value is not None
        for leaf in lazy(value.const_value).leaves()
        if isinstance(leaf, FileRange)
    }
    return _digest(export, role, {str(path): state_of(path) for path in paths})


def call_key(function: str, arguments: Mapping[str, Any], parts: Iterable[str]) -> str | None:
    """The key of what `function` ("module:name", imported) gives for JSON `arguments`.

    `parts` are what it depends on besides: keys of exports, or a machine. Versions count, graphopt's own
    code, that of every pack, and that of the function's module. None where code cannot be found.
    """
    packs = [(origin.group, module_code(origin.module)) for origin in registry.origins()]
    own = module_code(function.partition(":")[0])
    if own is None or any(code is None for _, code in packs):
        return None
    code = [code_digest(Path(__file__).parent.parent), own, *packs]
    return _digest(FORMAT, "call", function, arguments, list(parts), versions(), code)


class StepKeys(NamedTuple):
    """Keys of a step: of the state `after` it, and of its `code` run over the one before with any options."""

    after: str
    code: str


def step_keys(
    base: str, steps: Iterable[tuple[str, Pass]], target: Target, checks: Mapping[str, Any]
) -> list[StepKeys]:
    """The keys of each of `steps`, over an exported model of key `base`.

    Name, options and code of every pass so far count, the target with its code and fingerprint, and how edits
    are checked. The list ends before the first step whose code cannot be found or whose options have no form.
    """
    platform = _code(type(target))
    if platform is None:
        return []
    keys = []
    last = _digest(base, target.name, platform, target.fingerprint(), checks)
    for name, instance in steps:
        code = _code(type(instance))
        before = last
        try:
            last = _digest(before, name, instance.resolved(), code)
        except TypeError:
            break
        if code is None:
            break
        keys.append(StepKeys(last, _digest(before, name, code)))
    return keys


def result_key(step: str, key: str) -> str:
    """The key of what a pass calls `key`, of a step of the key `step`."""
    return _digest(step, key)


def _code(cls: type) -> list[str] | None:
    """Digests of the packages, or single modules, in which a class and its bases are defined."""
    digests: dict[str, None] = {}
    for base in cls.__mro__:
        head = base.__module__.partition(".")[0]
        if head == "graphopt" or (head in sys.stdlib_module_names and head != "__main__"):
            continue
        digest = module_code(base.__module__)
        if digest is None:
            return None
        digests[digest] = None
    return list(digests)


def _files(source: Source) -> Sequence[Path]:
    if source.path.is_file():
        return [source.path]
    patterns = [*_READ_BY_EXPORT, *(f"*/{pattern}" for pattern in _READ_BY_EXPORT)]
    found = {path for pattern in patterns for path in source.path.glob(pattern)}
    found.update(path for family in registry.families().values() for path in family().also_read(source.path))
    return sorted(path for path in found if path.is_file())


def _state(path: Path) -> Any:
    if path.stat().st_size <= _SMALL:
        return digest_of(path)
    return [os.path.realpath(path), *state_of(path)]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
