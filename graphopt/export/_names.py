"""Gives a traced graph the names its family wants: inputs, outputs, and what varies in their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.families import ExportInputs

__all__ = ["rename"]

_SYMBOL = re.compile(r"[A-Za-z_]\w*")


def rename(model: ir.Model, inputs: ExportInputs) -> None:
    """Name graph inputs, outputs and symbolic dims as `inputs` says, in place; drop the exporter's metadata.

    A dim that torch spells as a formula becomes the name `inputs.derived` has for it, or stays a formula
    over names. Results that nobody asked for (hidden states, say) are no outputs any more. Raises `BadInput`
    if the graph lacks an input or an output, or tracing fixed a size that should vary.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs.dims):
        left = ", ".join(str(value.name) for value in graph.inputs)
        raise BadInput(f"the exporter lost inputs: of {', '.join(inputs.dims)} it left {left}")
    symbols: dict[str, str] = {}
    for value, (name, dims) in zip(graph.inputs, inputs.dims.items(), strict=True):
        value.name = name
        for dim, wanted in zip(value.shape or (), dims, strict=True):
            if isinstance(wanted, str):
                symbols[_formula(dim, name, wanted)] = wanted
    if inputs.outputs is not None:
        _drop_unasked(graph, inputs)
        for value, wanted_name in zip(graph.outputs, inputs.outputs, strict=True):
            value.name = wanted_name
    formulas = {_sorted_sum(formula): name for name, formula in inputs.derived.items()}
    for value in _values(model):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, symbols, formulas) for dim in value.shape])
    for node in graph.all_nodes():
        node.metadata_props.clear()
    for value in _values(model):
        value.metadata_props.clear()
    model.metadata_props.clear()
    graph.metadata_props.clear()


def _drop_unasked(graph: ir.Graph, inputs: ExportInputs) -> None:
    """Keep the outputs that are called as asked, and those of containers that were given, as a cache is."""
    assert inputs.outputs is not None
    if len(graph.outputs) > len(inputs.outputs):
        asked = [v for v in graph.outputs if v.name in inputs.outputs or _container(v) in inputs.kwargs]
        graph.outputs[:] = asked
    if len(graph.outputs) != len(inputs.outputs):
        given = ", ".join(str(value.name) for value in graph.outputs)
        raise BadInput(f"the model does not give {', '.join(inputs.outputs)}: it gives {given}")


def _container(value: ir.Value) -> str:
    """`past_key_values` of `output.past_key_values.layers.0.keys`."""
    return str(value.name).removeprefix("output.").partition(".")[0]


def _formula(dim: int | ir.SymbolicDim, name: str, wanted: str) -> str:
    text = str(dim.value) if isinstance(dim, ir.SymbolicDim) else str(dim)
    if not _SYMBOL.search(text):
        raise BadInput(f"the model only works for one {wanted} size of {name!r}: tracing fixed it at {text}")
    return text


def _values(model: ir.Model) -> list[ir.Value]:
    graph = model.graph
    produced = [output for node in graph.all_nodes() for output in node.outputs]
    return [*graph.inputs, *graph.initializers.values(), *produced]


def _renamed(
    dim: int | ir.SymbolicDim, symbols: Mapping[str, str], formulas: Mapping[str, str]
) -> int | ir.SymbolicDim:
    if not isinstance(dim, ir.SymbolicDim) or dim.value is None:
        return dim
    text = _SYMBOL.sub(lambda match: symbols.get(match[0], match[0]), dim.value)
    return ir.SymbolicDim(formulas.get(_sorted_sum(text), text))


def _sorted_sum(formula: str) -> str:
    return " + ".join(sorted(term.strip() for term in formula.split("+")))
