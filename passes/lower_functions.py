"""lower-functions: operators that the target leaves to another provider or refuses, as ONNX defines them."""

from __future__ import annotations

from typing import ClassVar

import onnx
import onnx_ir as ir

from graphopt.ir import infer_types
from graphopt.pipeline import Context, Contract, Edits, Level, NearMiss, OpsetRange, Pass

from ._convert import CannotConvert, expanded, transplant
from ._opsets import left_anyway, without_kernel


class LowerFunctions(Pass):
    """Operators that ONNX defines by others become these, where the target has kernels for them alone.

    Before: y = RMSNormalization(x, w), for which the target has no kernel
    After:  Mul, ReduceMean, Add, Sqrt, Div, Mul: the definition in ONNX's schema
    Without a target all of them are spelled out.
    Refuses: operators without a definition; one that is a loop, as Range's; one of which the target leaves as
    many nodes of floats to others, at whatever older opset their graph may be declared.
    """

    name: ClassVar[str] = "lower-functions"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(18, None)
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        left, seen = left_anyway(context, context.model), set[str]()
        while (op_type := _next(graph, seen)) is not None:
            seen.add(op_type)
            if not _is_defined(op_type, context.opset) or not _stays_behind(op_type, context):
                continue
            try:
                made = expanded(context.model, op_type)
            except CannotConvert as error:
                yield NearMiss(op_type, str(error))
                continue
            if sum(1 for _ in made.graph.subgraphs()) > sum(1 for _ in graph.subgraphs()):
                yield NearMiss(op_type, "its definition is a loop")
                continue
            infer_types(made)
            now = left_anyway(context, made)
            if context.target is not None and now.floats >= left.floats:
                yield NearMiss(op_type, "of its definition no fewer nodes of floats run elsewhere")
                continue
            left = now
            yield transplant(graph, made, f"{op_type} as ONNX defines it")


def _next(graph: ir.Graph, seen: set[str]) -> str | None:
    """An operator of the graph that was not looked at; definitions bring others."""
    return min({node.op_type for node in graph.all_nodes() if not node.domain} - seen, default=None)


def _stays_behind(op_type: str, context: Context) -> bool:
    if context.target is None:
        return True
    left = without_kernel(context.target, context.model)
    return any(node.operator == f"ai.onnx::{op_type}" for node in left)


def _is_defined(op_type: str, opset: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]
