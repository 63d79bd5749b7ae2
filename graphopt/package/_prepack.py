"""A copy of a package that holds its weights twice: as they are, and as kernels of this machine want them.

onnxruntime's kernels lay weights out whenever a session starts, in memory of the process. Where that layout
is stored beside them it is still computed, but only compared, piece by piece: what is kept is the file's,
mapped. So sessions start sooner and processes share the memory. onnxruntime refuses a layout that is damaged,
or not what the kernels of the machine want.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import onnx

from graphopt.errors import BadInput
from graphopt.ir import load_model
from graphopt.package._package import RunnablePackage
from graphopt.package._staging import check_destination, staged
from graphopt.runtime import CPU, open_session, plain_options

__all__ = ["Prepacked", "prepack"]

_ALIGNED = 4096  # a page: what is mapped begins on one
_PIECE = 1 << 24  # bytes copied at a time: few calls, little memory


@dataclass(frozen=True)
class Prepacked:
    """The copy, the bytes it takes more, and how many seconds sessions of both took to start with
    onnxruntime's kernels."""

    package: RunnablePackage
    added_bytes: int
    seconds_before: float
    seconds: float


def prepack(package: RunnablePackage, out: Path, *, force: bool = False) -> Prepacked:
    """Copy `package` to `out`, its weights also in the layout of this machine's kernels, for such machines.

    Nodes and weights stay what they are, byte for byte. `BadInput` where the package runs on something else
    than onnxruntime's CPU provider, has no kernel that lays weights out, or is such a copy already.
    """
    check_destination(out, force=force, source=package.path)
    if package.target().provider != CPU:
        raise BadInput("only onnxruntime's CPU provider stores weights as its kernels want them")
    for graph in package.manifest.graphs.values():
        load_model(package.path / graph.file)  # refuses what is damaged
        if any(map(_entries, _weights(package.path / graph.file))):
            raise BadInput(f"{package.path} is such a copy already")
        own = f"{Path(graph.file).name}.data"
        if other := next((name for name in _files(package.path / graph.file) if name != own), None):
            raise BadInput(f"weights of {package.path} lie in {other}, where no layout has a place")
    with staged(out, force=force, source=package.path) as staging:
        shutil.copytree(package.path, staging.package, dirs_exist_ok=True)
        added = 0
        for graph in package.manifest.graphs.values():
            layouts = _layouts(package.path / graph.file, staging.scratch / "model.onnx")
            added += _add(staging.package / graph.file, layouts, staging.scratch)
        before = _seconds(package)  # not earlier: the first session of a process is slow
        if not added:
            raise BadInput(f"no kernel of {package.path} lays weights out anew: nothing is to be stored")
    copy = RunnablePackage.load(out)
    return Prepacked(copy, added, before, _seconds(copy))


def _seconds(package: RunnablePackage) -> float:
    total = 0.0
    for graph in package.manifest.graphs.values():
        started = time.perf_counter()
        open_session(package.path / graph.file)
        total += time.perf_counter() - started
    return total


def _weights(path: Path) -> list[onnx.TensorProto]:
    return list(onnx.load(path, load_external_data=False).graph.initializer)


def _files(path: Path) -> set[str]:
    """Names of the files that hold weights of the graph at `path`."""
    return {e.value for t in _weights(path) for e in t.external_data if e.key == "location"}


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {e.key: e.value for e in tensor.external_data if e.key.startswith("prepacked_")}


def _layouts(source: Path, scratch: Path) -> dict[str, dict[str, str]]:
    """What onnxruntime says of stored layouts, by weight, in the file that it writes to `scratch`."""
    options = plain_options()
    options.optimized_model_filepath = str(scratch)
    for key, value in (
        ("session.optimized_model_external_initializers_file_name", f"{scratch.name}.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", "1"),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(key, value)
    open_session(source, options=options)
    return {tensor.name: found for tensor in _weights(scratch) if (found := _entries(tensor))}


def _add(path: Path, layouts: dict[str, dict[str, str]], scratch: Path) -> int:
    """Append the layouts to the data file of the graph at `path`; how many bytes that takes.

    An entry is `KEY|OFFSET;LENGTH;CHECKSUM|...`, a part for each buffer of a kernel.
    """
    if not layouts:
        return 0
    model = onnx.load(path, load_external_data=False)
    data = path.with_name(f"{path.name}.data")
    size = data.stat().st_size if data.exists() else 0
    with (scratch / "model.onnx.data").open("rb") as source, data.open("ab") as out:
        for tensor in model.graph.initializer:
            if not tensor.external_data:
                continue
            for name, entry in layouts.get(tensor.name, {}).items():
                key, *buffers = entry.split("|")
                for index, buffer in enumerate(buffers):
                    offset, length, checksum = buffer.split(";")
                    out.write(bytes(-out.tell() % _ALIGNED))
                    buffers[index] = f"{out.tell()};{length};{checksum}"
                    source.seek(int(offset))
                    _copy(source, out, int(length))
                tensor.external_data.add(key=name, value="|".join([key, *buffers]))
        added = out.tell() - size
    path.write_bytes(model.SerializeToString(deterministic=True))
    return added


def _copy(source: BinaryIO, out: BinaryIO, length: int) -> None:
    while length:
        piece = source.read(min(length, _PIECE))
        out.write(piece)
        length -= len(piece)
