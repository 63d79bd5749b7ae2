"""The cases of the onnx package's backend suite: graphs with inputs and expected outputs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
import onnx.version_converter
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

DATA_KINDS = ("simple", "pytorch-converted", "pytorch-operator")
OLDEST_OPSET = 7
"""What onnxruntime promises to run; it has kernels for some that are older."""


@dataclass(frozen=True)
class Case:
    """A graph, what to feed it and what shall come out; `note` is what was done to the graph."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    expected: list[Any]
    rtol: float
    atol: float
    note: str = ""


@functools.cache
def node_cases() -> dict[str, Any]:
    """The cases that the suite's code generates, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None)}


@functools.cache
def data_cases() -> dict[str, Any]:
    """The cases in the suite's data files, by name."""
    found = (c for kind in DATA_KINDS for c in onnx.backend.test.loader.load_model_tests(kind=kind))
    return {case.name: case for case in found}


def read(name: str, *, converted: bool = True) -> Case:
    """The case called `name`, its graph `converted` to opset 7 where it is older."""
    if name in node_cases():
        case = node_cases()[name]
        inputs, expected = case.data_sets[0]
        model = case.model
    else:
        case = data_cases()[name]
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        inputs = list(_arrays(folder, "input", model.graph.input))
        expected = list(_arrays(folder, "output", model.graph.output))
    initialized = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input]
    if len(inputs) < len(names):
        names = [n for n in names if n not in initialized]
    feeds = {n: _array(v) for n, v in zip(names, inputs, strict=True) if v is not None}
    model, note = _young_enough(model) if converted else (model, "")
    return Case(name, model, feeds, [_array(v) for v in expected], case.rtol, case.atol, note)


def _young_enough(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), None)
    if version is None or version >= OLDEST_OPSET:
        return model, ""
    try:
        converted = onnx.version_converter.convert_version(model, OLDEST_OPSET)
        onnx.checker.check_model(converted)
    except Exception:
        return model, f"opset {version}"
    return converted, f"converted from opset {version}"


def _arrays(folder: Path, kind: str, values: Any) -> Iterator[Any]:
    data = folder / "test_data_set_0"
    for index in range(len(list(data.glob(f"{kind}_*.pb")))):
        content = (data / f"{kind}_{index}.pb").read_bytes()
        which = values[index].type.WhichOneof("value")
        if which == "sequence_type":
            yield numpy_helper.to_list(onnx.SequenceProto.FromString(content))
        elif which == "optional_type":
            yield numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
        else:
            yield onnx.TensorProto.FromString(content)


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    return value
