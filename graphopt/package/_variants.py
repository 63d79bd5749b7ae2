"""One folder for several targets: weights that their graphs share are stored once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from graphopt.package._manifest import VARIANTS, read_manifest

if TYPE_CHECKING:
    import onnx

__all__ = ["add_variant"]

_CHUNK = 1 << 20
_ALIGNMENT = 4096  # as `save_model` writes large weights


def add_variant(folder: Path, other: Path) -> None:
    """Put the package at `other` into that at `folder`, which is for another target.

    It becomes the package `folder`/targets/NAME, but its graphs lie beside those of `folder`, model.onnx as
    model.NAME.onnx: a graph reads weights of its own folder alone. Those whose bytes are in a data file there
    are read from it. A target that wants its graphs in a folder of its own has all of its package to itself.
    """
    manifest = read_manifest(other)
    name = manifest.target.name
    place, stored = folder / VARIANTS / name, _Stored.of(folder)
    if any("/" in graph.file for graph in manifest.graphs.values()):
        shutil.copytree(other, place)
        _list(folder, name)
        return
    up = Path(*[".."] * len(place.relative_to(folder).parts))
    graphs = {graph.file: _named(graph.file, name) for graph in manifest.graphs.values()}
    for file, new in graphs.items():
        _write_graph(other / file, folder / new, stored)
    kept = shutil.ignore_patterns(*graphs, *(f"{file}.data" for file in graphs))
    shutil.copytree(other, place, ignore=kept)
    moved = {
        role: graph.model_copy(update={"file": str(up / graphs[graph.file])})
        for role, graph in manifest.graphs.items()
    }
    manifest.model_copy(update={"graphs": moved}).write(place)
    _list(folder, name)


def _list(folder: Path, name: str) -> None:
    """Have the package at `folder` say that there is one for the target `name` in it."""
    first = read_manifest(folder)
    first.model_copy(update={"variants": (*first.variants, name)}).write(folder)


def _named(file: str, target: str) -> str:
    stem, _, suffix = file.rpartition(".")
    return f"{stem}.{target}.{suffix}"


@dataclass
class _Stored:
    """Where bytes lie in the data files of a package, by their length and SHA-256."""

    places: dict[tuple[int, str], tuple[str, int]]

    @classmethod
    def of(cls, folder: Path) -> _Stored:
        stored = cls({})
        for graph in sorted(folder.glob("*.onnx")):
            for tensor in _external(_proto(graph)):
                stored.add(folder, *_range(tensor))
        return stored

    def add(self, folder: Path, location: str, offset: int, length: int) -> None:
        self.places.setdefault((length, _digest(folder / location, offset, length)), (location, offset))


def _write_graph(source: Path, path: Path, stored: _Stored) -> None:
    """The graph at `source` as `path`, its data in what is `stored` or else in a data file of its own."""
    proto, data = _proto(source), path.with_name(path.name + ".data")
    with data.open("wb") as file:
        for tensor in _external(proto):
            location, offset, length = _range(tensor)
            key = (length, _digest(source.with_name(location), offset, length))
            if key not in stored.places:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                stored.places[key] = (data.name, file.tell())
                for chunk in _chunks(source.with_name(location), offset, length):
                    file.write(chunk)
            _point(tensor, *stored.places[key], length)
    if not data.stat().st_size:
        data.unlink()
    path.write_bytes(proto.SerializeToString())


def _proto(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path, load_external_data=False)


def _external(proto: onnx.ModelProto) -> list[Any]:
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    return [tensor for tensor in _get_all_tensors(proto) if uses_external_data(tensor)]


def _range(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """File, offset and length of the bytes of a tensor; those of graphopt's packages say all three."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    return said["location"], int(said.get("offset", 0)), int(said["length"])


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def _chunks(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        yield from _read(file, length)


def _read(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        chunk = file.read(min(_CHUNK, length))
        length -= len(chunk)
        yield chunk


def _digest(path: Path, offset: int, length: int) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path, offset, length):
        digest.update(chunk)
    return digest.hexdigest()
