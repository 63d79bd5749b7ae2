"""Safetensors checkpoints, single or sharded, as lazy weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.ir._lazy import FileRange
from graphopt.ir._load import inside_repository

__all__ = ["SafetensorsIndex"]

_DTYPES = {
    "F64": ir.DataType.DOUBLE, "F32": ir.DataType.FLOAT, "F16": ir.DataType.FLOAT16, "BF16": ir.DataType.BFLOAT16,
    "I64": ir.DataType.INT64, "I32": ir.DataType.INT32, "I16": ir.DataType.INT16, "I8": ir.DataType.INT8,
    "U8": ir.DataType.UINT8, "BOOL": ir.DataType.BOOL,
    "F8_E4M3": ir.DataType.FLOAT8E4M3FN, "F8_E5M2": ir.DataType.FLOAT8E5M2,
}  # fmt: skip
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


class SafetensorsIndex:
    """Where each tensor of a checkpoint directory lies.

    Raises `BadInput` for a directory without safetensors (with the command that converts a pickled one), a
    damaged header, a file shorter than its header says, or a shard that is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._ranges: dict[str, FileRange] = {}
        for file in self._files():
            self._ranges.update(_read_header(inside_repository(file, self.folder), file))

    def __contains__(self, key: object) -> bool:
        return key in self._ranges

    def keys(self) -> Iterator[str]:
        """Names of all tensors."""
        return iter(self._ranges)

    def expr(self, key: str) -> FileRange:
        """The tensor called `key`."""
        return self._ranges[key]

    def _files(self) -> list[Path]:
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            try:
                names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadInput(f"{index} is not a safetensors index: {error}") from error
            files = []
            for name in names:
                if Path(name).name != name:
                    raise BadInput(f"{index} names shard {name!r}, which is not a plain file name")
                if not (self.folder / name).is_file():
                    raise BadInput(f"{self.folder / name} is missing; {index.name} lists it")
                files.append(self.folder / name)
            return files
        single = self.folder / "model.safetensors"
        if single.is_file():
            return [single]
        pickled = next((p for pattern in _PICKLED for p in sorted(self.folder.glob(pattern))), None)
        if pickled is not None:
            raise BadInput(
                f"{self.folder} has only a pickled checkpoint ({pickled.name}), which can run code when opened",
                hint="Convert it where you trust it: "
                f"python -c \"from transformers import AutoModel as A; "
                f"A.from_pretrained('{self.folder}', use_safetensors=False).save_pretrained('{self.folder}')\"",
            )
        raise BadInput(f"{self.folder} has no model.safetensors")


def _read_header(path: Path, shown: Path) -> dict[str, FileRange]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise BadInput(f"{shown} is truncated or not a safetensors file: its header does not fit in {size} bytes")
        try:
            header = json.loads(file.read(length))
            return dict(_ranges(header, path, 8 + length, size))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{shown} has a damaged safetensors header: {error}") from error
        except EOFError as error:
            raise BadInput(f"{shown} is truncated: {error}", hint="Download it again.") from error


def _ranges(header: dict[str, dict[str, object]], path: Path, base: int, size: int) -> Iterator[tuple[str, FileRange]]:
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, stop = (int(n) for n in entry["data_offsets"])  # type: ignore[attr-defined]
        shape = tuple(int(n) for n in entry["shape"])  # type: ignore[attr-defined]
        expr = FileRange(path, base + start, stop - start, _DTYPES[str(entry["dtype"])], shape)
        if start < 0 or expr.nbytes != expr.length:
            raise ValueError(f"tensor {name!r} does not have the bytes its shape needs")
        if base + stop > size:
            raise EOFError(f"tensor {name!r} ends at byte {base + stop}, the file at {size}")
        yield name, expr
