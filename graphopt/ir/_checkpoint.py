"""Safetensors checkpoints, single or sharded, as lazy weights.

The format: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, KeysView
from pathlib import Path
from typing import Any

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.ir._expression import FileRange
from graphopt.ir._load import inside_repository
from graphopt.ir._tensor import LazyTensor, same_content
from graphopt.ir._unreadable import adapter, pointer, unreadable

__all__ = ["SafetensorsIndex"]

_DTYPES = {
    "F64": ir.DataType.DOUBLE,
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "F8_E4M3": ir.DataType.FLOAT8E4M3FN,
    "F8_E5M2": ir.DataType.FLOAT8E5M2,
    "I64": ir.DataType.INT64,
    "I32": ir.DataType.INT32,
    "I16": ir.DataType.INT16,
    "I8": ir.DataType.INT8,
    "U64": ir.DataType.UINT64,
    "U32": ir.DataType.UINT32,
    "U16": ir.DataType.UINT16,
    "U8": ir.DataType.UINT8,
    "BOOL": ir.DataType.BOOL,
    "C64": ir.DataType.COMPLEX64,
}
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_LONGEST_HEADER = 100_000_000  # the limit of the safetensors library itself
_AGAIN = "Download it again."


class SafetensorsIndex:
    """Where each tensor of a checkpoint directory lies: `model.safetensors`, or the shards its index lists.

    Only headers are read. Raises `BadInput`, naming the file: a directory without safetensors (with what it
    holds instead, and the next step), an adapter beside the model, a damaged header, a file shorter than its
    header says, a missing shard or tensor that the index lists, a tensor of which shards hold different
    copies, a link out of the directory or its Hub repository. `unread` names other safetensors files there.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._ranges: dict[str, FileRange] = {}
        single = (self.folder / _SINGLE).is_symlink() or (self.folder / _SINGLE).exists()
        shards = _shards(self.folder / _INDEX) if (self.folder / _INDEX).is_file() else {}
        if not single and not (self.folder / _INDEX).is_file():
            nothing = BadInput(f"{self.folder} has no {_SINGLE} and no {_INDEX}")
            raise unreadable(self.folder) or nothing
        beside = adapter(self.folder)
        if beside is not None:
            raise beside
        if single:
            self._add(_SINGLE)
            self._compare(shards)
        else:
            self._add_shards(shards)
        read = {_SINGLE} if single else set(shards)
        self.unread = sorted(p.name for p in self.folder.glob("*.safetensors") if p.name not in read)

    def __contains__(self, key: object) -> bool:
        return key in self._ranges

    def __len__(self) -> int:
        return len(self._ranges)

    def keys(self) -> KeysView[str]:
        """Names of all tensors."""
        return self._ranges.keys()

    def expr(self, key: str) -> FileRange:
        """The tensor called `key`; `KeyError` where there is none."""
        return self._ranges[key]

    def _add(self, name: str) -> dict[str, FileRange]:
        file = self.folder / name
        ranges = _ranges(inside_repository(file, self.folder), file)
        for key in ranges.keys() & self._ranges.keys():
            if not same_content(LazyTensor(ranges[key]), LazyTensor(self._ranges[key])):
                raise BadInput(
                    f"{file} and {self._ranges[key].path.name} hold different tensors called {key!r}",
                    hint=_AGAIN,
                )
        self._ranges.update(ranges)
        return ranges

    def _compare(self, shards: dict[str, list[str]]) -> None:
        """Transformers prefers the single file to an index: so it must hold all that the index lists."""
        absent = [key for keys in shards.values() for key in keys if key not in self._ranges]
        if absent:
            raise BadInput(
                f"{self.folder / _SINGLE} lacks {len(absent)} tensors that {_INDEX} beside it lists, "
                f"{absent[0]!r} first",
                hint=f"Take the one away that is not meant: {_SINGLE}, or {_INDEX} with its shards.",
            )

    def _add_shards(self, shards: dict[str, list[str]]) -> None:
        for name, keys in shards.items():
            if Path(name).name != name:
                raise BadInput(f"{self.folder / _INDEX} names shard {name!r}, which is not a plain file name")
            if not (self.folder / name).is_file():
                raise BadInput(f"{self.folder / name} is missing; {_INDEX} lists it", hint=_AGAIN)
            held = self._add(name)
            absent = next((key for key in keys if key not in held), None)
            if absent is not None:
                raise BadInput(
                    f"{self.folder / name} has no tensor {absent!r}; {_INDEX} lists it", hint=_AGAIN
                )


def _shards(index: Path) -> dict[str, list[str]]:
    """Names of shards, each with the keys that the index says it holds."""
    try:
        shards: dict[str, list[str]] = {}
        for key, name in json.loads(index.read_bytes())["weight_map"].items():
            shards.setdefault(_string(name), []).append(key)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{index} is not a safetensors index: {error}", hint=_AGAIN) from error
    return dict(sorted(shards.items()))


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a file name")
    return value


def _ranges(path: Path, shown: Path) -> dict[str, FileRange]:
    unfetched = pointer(shown)
    if unfetched is not None:
        raise unfetched
    state = path.stat()
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= state.st_size - 8:
            raise BadInput(
                f"{shown} is truncated or not a safetensors file: "
                f"it has {state.st_size} bytes, and its header should take {length}",
                hint=_AGAIN,
            )
        if length > _LONGEST_HEADER:
            raise BadInput(f"{shown} has a header of {length} bytes, more than safetensors allows")
        header = file.read(length)
    base = 8 + length
    ranges = {}
    try:
        for name, entry in _entries(json.loads(header)):
            start, stop = _integers(entry["data_offsets"])
            dtype = _DTYPES.get(entry["dtype"])
            if dtype is None:
                raise BadInput(
                    f"{shown}: tensor {name!r} is of dtype {entry['dtype']}, which is not read",
                    hint="It belongs to quantized weights: start from the unquantized model.",
                )
            if base + stop > state.st_size:
                raise BadInput(
                    f"{shown} is truncated: tensor {name!r} ends at byte {base + stop}, "
                    f"the file at {state.st_size}",
                    hint=_AGAIN,
                )
            shape = _integers(entry["shape"])
            ranges[name] = FileRange(path, base + start, stop - start, dtype, shape, state.st_mtime_ns)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{shown} has a damaged safetensors header: {error}", hint=_AGAIN) from error
    return ranges


def _entries(header: Any) -> Iterator[tuple[str, Any]]:
    return ((name, entry) for name, entry in header.items() if name != "__metadata__")


def _integers(values: Any) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise TypeError(f"{values!r} are not sizes")
    return tuple(values)
