"""A small graph as text, with what is needed to run a pass over it and to run the graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.calibrate import CalibrationData, from_arrays
from graphopt.errors import BadInput
from graphopt.families import Case, Family, InputDomain
from graphopt.interface import Interface
from graphopt.ir import LazyTensor, parse
from graphopt.pipeline import Context
from graphopt.plugins import registry
from graphopt.testing._blocks import in_blocks
from graphopt.testing._execution import Array, seeded_feeds

__all__ = ["Example", "corpus", "header_of", "specified"]

_CORPUS = Path(__file__).parent / "corpus"
_GRAPH = "--- graph\n"


@dataclass(frozen=True)
class Example:
    """A graph (`before`, in ONNX's textual syntax) and the header lines that say what its inputs are.

    `bind: B=2,S=3; B=1,S=5` gives sizes for seeded inputs, `?` being that of unnamed dimensions;
    `family: NAME` and `config: JSON` make them the legal ones of a model family, `task: NAME` is the task.
    `inputs: JSON` are arrays of one legal call by name, for inputs that cannot be just any: as `graphopt
    optimize --inputs` takes them. Its other inputs are seeded; without `bind` it is the only case.
    `blocks: {"w": [4, 16]}` makes of the weight `w` [K, N] what a source holds that quantized it, to 4 bits
    in blocks of 16 along K, with zero points (`graphopt.ir.Blocks`).
    `calibration: B=16` calibrates on seeded inputs of these sizes, samples along the first dimension.
    `pass: NAME` and `options: JSON` say which pass the graph is for, and with which options.
    """

    path: Path
    header: Mapping[str, str]
    before: str

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def model(self) -> ir.Model:
        """The graph, made anew."""
        model = parse(self.before)
        for name, (bits, block) in json.loads(self.header.get("blocks", "{}")).items():
            value = model.graph.initializers[name]
            assert value.const_value is not None
            value.const_value = LazyTensor(in_blocks(value.const_value.numpy(), bits, block), name=name)
        return model

    def context(self, model: ir.Model) -> Context:
        """What a pass may know around `model`."""
        task = self.header.get("task", "onnx")
        domain, states = self._domain(), self._states()
        data = self._calibration(model)
        config = self._config()
        return Context(model, domain=domain, states=states, config=config, task=task, calibration=data)

    def _calibration(self, model: ir.Model) -> CalibrationData | None:
        if "calibration" not in self.header:
            return None
        feeds = seeded_feeds(model, _bound(self.header["calibration"]))
        return from_arrays("seeded inputs", [feeds], Interface.of(model))

    def options(self, name: str) -> dict[str, Any]:
        """The options for the pass `name`: those of the header where the graph is for it, else none."""
        return dict(json.loads(self.header.get("options", "{}"))) if self.header.get("pass") == name else {}

    def cases(self) -> Iterator[Case]:
        """Legal inputs of the graph."""
        domain = self._domain()
        if domain is not None:
            yield from domain.cases(np.random.default_rng(0))
            return
        model = self.model()
        given = self.given(model)
        if "bind" in self.header or not given:
            for binding in self.header.get("bind", "").split(";"):
                yield Case(binding.strip(), seeded_feeds(model, _bound(binding)), {})
        if given:
            yield Case("its inputs", seeded_feeds(model, _sizes(model, given)) | given, {})

    def given(self, model: ir.Model) -> dict[str, Array]:
        """The arrays of the header line `inputs`, of the types that `model`, made of this graph, has.

        `BadInput` where they are none, or not of its inputs.
        """
        arrays = {}
        for name, numbers in _numbers(self.path, self.header.get("inputs", "{}")).items():
            value = next((v for v in model.graph.inputs if v.name == name), None)
            if value is None or value.dtype is None or value.shape is None:
                raise BadInput(
                    f"{self.path}: `inputs` names {name!r}, which is no input of known type and rank"
                )
            try:
                arrays[name] = np.asarray(numbers, value.dtype.numpy())
            except (TypeError, ValueError) as error:
                raise BadInput(f"{self.path}: `inputs` has no array for {name!r}: {error}") from error
            if not _fits(arrays[name].shape, value.shape):
                shape = list(arrays[name].shape)
                raise BadInput(f"{self.path}: `inputs` has {shape} for {name!r}, which is {value.shape}")
        return arrays

    def _config(self) -> dict[str, Any]:
        return dict(json.loads(self.header.get("config", "{}")))

    def _domain(self) -> InputDomain | None:
        family = self._family()
        return None if family is None else family.input_domain(Interface.of(self.model()), self._config())

    def _states(self) -> Mapping[str, str]:
        family = self._family()
        return {} if family is None else family.states(Interface.of(self.model()))

    def _family(self) -> Family | None:
        if "family" not in self.header:
            return None
        found: type[Family] = registry.resolve("model family", self.header["family"], registry.families())
        return found()


def _bound(text: str) -> dict[str, int]:
    """Sizes by the names of dimensions, of "B=2,S=3"."""
    pairs = (pair.split("=") for pair in text.split(",") if pair.strip())
    return {name.strip(): int(size) for name, size in pairs}


def _numbers(path: Path, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: `inputs` is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path}: `inputs` is not an object of arrays by name")
    return found


def _fits(shape: Sequence[int], dims: ir.Shape) -> bool:
    return len(shape) == len(dims) and all(
        not isinstance(dim, int) or size == dim for size, dim in zip(shape, dims, strict=True)
    )


def _sizes(model: ir.Model, arrays: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of the dimensions of inputs that `arrays` are for."""
    return {
        dim.value or "?": size
        for value in model.graph.inputs
        if (array := arrays.get(value.name or "")) is not None
        for dim, size in zip(value.shape or (), array.shape, strict=True)
        if isinstance(dim, ir.SymbolicDim)
    }


def specified(expected: Array, got: Array, where: Array | None) -> tuple[Array, Array]:
    """Both arrays, zero where `where` says that the result is unspecified."""
    if where is None or expected.shape != got.shape:
        return expected, got
    zero = expected.dtype.type(0)
    return np.where(where, expected, zero), np.where(where, got, zero)


def header_of(path: Path, head: str) -> dict[str, str]:
    """The `key: value` lines above a graph."""
    header = {}
    for line in head.strip().splitlines():
        key, separator, value = line.partition(": ")
        if not separator:
            raise BadInput(f"{path}: {line!r} is not a line `key: value`")
        header[key] = value
    return header


def corpus() -> list[Example]:
    """The graphs that ship with graphopt for checking passes."""
    return [_read(path) for path in sorted(_CORPUS.glob("*.txt"))]


def _read(path: Path) -> Example:
    head, _, graph = path.read_text(encoding="utf-8").partition(_GRAPH)
    return Example(path, header_of(path, head), graph)
