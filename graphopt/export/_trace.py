"""The one place that calls transformers' exporter."""

from __future__ import annotations

import gc
import re
from typing import Any

import onnx_ir as ir

from graphopt.errors import BadInput, GraphoptError
from graphopt.export._environment import quiet
from graphopt.families import ExportInputs

__all__ = ["OPSET", "trace"]

OPSET = 23
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def trace(model: Any, inputs: ExportInputs) -> ir.Model:
    """The graph of `model` on `inputs`: opset 23, not optimized, inputs and outputs under torch's names.

    Raises `BadInput` naming the architecture if it cannot be traced.
    """
    from transformers.exporters import OnnxConfig, OnnxExporter

    from graphopt.export._faster import faster_export

    config = OnnxConfig(
        dynamic=True, dynamic_shapes=_dynamic_shapes(inputs), opset_version=OPSET, optimize=False
    )
    collecting = gc.isenabled()
    gc.disable()
    try:
        with quiet(), faster_export():
            exported = OnnxExporter().export(model, dict(inputs.kwargs), config)
    except (GraphoptError, MemoryError):
        raise
    except Exception as error:
        raise BadInput(
            f"{type(model).__name__} cannot be exported: transformers' exporter failed",
            hint=_reasons(error),
        ) from error
    finally:
        if collecting:
            gc.enable()
    program: ir.Model = exported.program
    return program


def _dynamic_shapes(inputs: ExportInputs) -> dict[str, Any]:
    """What varies, nested as torch wants it: one entry an argument, a flat list for a container's tensors.

    Torch finds out by itself which axes are equal and how long they may be: a bound it would want stated
    follows from the model's code (a table of 512 positions, say).
    """
    import torch

    auto = torch.export.Dim.AUTO
    specs = iter(
        {axis: auto for axis, d in enumerate(dims) if isinstance(d, str)} for dims in inputs.dims.values()
    )
    shapes: dict[str, Any] = {}
    for name, value in inputs.kwargs.items():
        if isinstance(value, torch.Tensor):
            shapes[name] = next(specs)
        elif not isinstance(value, bool | int | float | str | None):
            shapes[name] = [next(specs) for _ in _tensors(value)]
    if next(specs, None) is not None:
        raise ValueError("`dims` describes more tensors than `kwargs` holds")
    return shapes


def _tensors(container: Any) -> list[Any]:
    from transformers.exporters.exporter_dynamo import get_auto_dynamic_shapes

    return list(get_auto_dynamic_shapes(container))


def _reasons(error: BaseException) -> str:
    """What the exporter says, the first cause first."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(before)
    said = [f"{type(e).__name__}: {_one_line(str(e))}" for e in reversed(chain)]
    return "\n  ".join(list(dict.fromkeys(said))[:2])


def _one_line(text: str) -> str:
    return " ".join(_COLOURS.sub("", text).split())[:400]
