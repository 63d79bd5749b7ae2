"""Planted edits as text: what a graph computes, a right way to write it anew and a wrong one."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import pytest

from graphopt.ir import infer_types, parse
from graphopt.pipeline import Contract, Edit
from graphopt.verify import EditVerifier

__all__ = ["ALIKE", "EXACT", "Planted", "edit_of", "holds", "model_of", "parameters"]

EXACT, ALIKE = Contract.exact(), Contract.reassociates()


@dataclass(frozen=True)
class Planted:
    """`takes` inputs and `gives` the output y, both declared; `weights` are initializers that all three use.

    `before`, `right` and `wrong` are nodes that make y. `stays`: nodes before them that no edit takes away.
    """

    takes: str
    gives: str
    before: str
    right: str
    wrong: str
    weights: str = ""
    contract: Contract = EXACT
    stays: str = ""
    opset: int = 23


def _parsed(planted: Planted, nodes: str) -> ir.Model:
    weights = f"<{planted.weights}>" if planted.weights else ""
    return parse(
        f'<ir_version: 10, opset_import: ["" : {planted.opset}, "com.microsoft" : 1]>\n'
        f"g ({planted.takes}) => ({planted.gives}) {weights} {{ {planted.stays} {nodes} }}"
    )


def model_of(planted: Planted) -> ir.Model:
    made = _parsed(planted, planted.before)
    infer_types(made)
    return made


def edit_of(model: ir.Model, planted: Planted, nodes: str) -> Edit:
    """The edit that puts `nodes` in the place of all but those that stay."""
    other = _parsed(planted, nodes)
    stays = len(list(_parsed(planted, "").graph)) if planted.stays else 0
    known = {v.name: v for v in (*model.graph.inputs, *model.graph.initializers.values())}
    old = list(model.graph)
    known |= {v.name: v for node in old[:stays] for v in node.outputs}
    new = list(other.graph)
    for node in new[stays:]:
        for index, value in enumerate(node.inputs):
            if value is not None and (value.producer() is None or value.producer() in new[:stays]):
                node.replace_input_with(index, known[value.name])
        _inner(node, known)
    made = other.graph.outputs[0]
    other.graph.outputs.clear()
    other.graph.remove(new[stays:])
    y = model.graph.outputs[0]
    return Edit("planted", remove=old[stays:], insert=new[stays:], replace={y: made})


def _inner(node: ir.Node, known: dict[str | None, ir.Value]) -> None:
    """Values of the outer graph that bodies of `node` use."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in attribute.as_graph():
                for index, value in enumerate(inner.inputs):
                    if value is not None and value.name in known and value.producer() is None:
                        inner.replace_input_with(index, known[value.name])


def holds(verifier: EditVerifier, planted: Planted) -> None:
    """The right edit is proven (or within its budget) and the wrong one fails, with a reason."""
    model = model_of(planted)
    right = verifier.check(model, edit_of(model, planted, planted.right), planted.contract)
    lossy = planted.contract.kind == "lossy"
    assert right.status == ("within budget" if lossy else "proven"), right.reason
    wrong = verifier.check(model, edit_of(model, planted, planted.wrong), planted.contract)
    assert (wrong.status, bool(wrong.reason)) == ("failed", True)


def parameters(table: dict[str, Planted]) -> list[object]:
    return [pytest.param(planted, id=name) for name, planted in table.items()]
