"""last-token-head: the vocabulary is scored for the last positions only."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.ir import is_output
from graphopt.pipeline import Context, Contract, Edit, Edits, LastTokenLogits, Level, NearMiss, Outcome, Pass

from ._nodes import MICROSOFT, Nodes

_KEEP = "logits_to_keep"
_LOGITS = "logits"
_HEADS = {("", "MatMul"), (MICROSOFT, "MatMulNBits")}
# What may follow the head: a bias, a scale, a cap.
_ELEMENTWISE = frozenset({"Add", "Cast", "Div", "Mul", "Tanh"})


class LastTokenHead(Pass):
    """The output projection of a language model sees the last `logits_to_keep` positions instead of all.

    Before: logits[batch, sequence, vocabulary] = MatMul(h, W), perhaps scaled or capped
    After:  logits[batch, 1, vocabulary] = MatMul(h[:, -logits_to_keep:], W); logits_to_keep int64[1] is an
            initializer of value 1 that is also an input, so that who needs more positions can ask for them
    The output is declared with one position, as onnxruntime-genai wants it, and has as many as asked for.
    Refuses: logits that are used in the graph too, or that do not come from a MatMul (or MatMulNBits). Tasks
    other than text generation are passed over.
    """

    name: ClassVar[str] = "last-token-head"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.exact()
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        if context.task != "text-generation" or _KEEP in graph.initializers:
            return
        logits = next((value for value in graph.outputs if value.name == _LOGITS), None)
        if logits is None:
            yield NearMiss(_LOGITS, "there is no output of that name")
            return
        chain = _from_head(logits)
        tokens = _tokens(graph, logits)
        if isinstance(chain, str) or tokens is None:
            yield NearMiss(
                _LOGITS, chain if isinstance(chain, str) else "no input has a place for each of them"
            )
            return
        outcome = yield _sliced(logits, chain, tokens)
        if outcome is Outcome.APPLIED:
            context.assume(
                "last-token-logits",
                f"logits are those of the last position; feed {_KEEP} to get more, as a right-padded "
                "batch needs",
            )


def _from_head(logits: ir.Value) -> list[ir.Node] | str:
    """The nodes from the projection to the output, or why there are none."""
    chain: list[ir.Node] = []
    value = logits
    while (node := value.producer()) is not None:
        if value.uses() if value is logits else len(value.uses()) > 1 or is_output(value):
            return "they are used in the graph too"
        chain.insert(0, node)
        if (node.domain, node.op_type) in _HEADS:
            return chain
        computed = [v for v in node.inputs if v is not None and not v.is_initializer()]
        if node.op_type not in _ELEMENTWISE or node.domain != "" or len(computed) != 1:
            break
        value = computed[0]
    return "they do not come from a projection"


def _tokens(graph: ir.Graph, logits: ir.Value) -> ir.Value | None:
    """An input [batch, sequence, ...] of the sequence of the logits: its length is how many there can be."""
    if logits.shape is None or len(logits.shape) != 3 or not isinstance(logits.shape[1], ir.SymbolicDim):
        return None
    sequence = logits.shape[1].value
    for value in graph.inputs:
        dims = value.shape
        if sequence is not None and dims is not None and len(dims) > 1 and dims[1] == logits.shape[1]:
            return value
    return None


def _sliced(logits: ir.Value, chain: list[ir.Node], tokens: ir.Value) -> Edit:
    head = chain[0]
    hidden = head.inputs[0]
    assert hidden is not None
    assert logits.shape is not None
    make = Nodes(head.name or "head")
    keep = make.weight(ir.tensor(np.asarray([1], np.int64)), _KEEP)
    end = make.constant([np.iinfo(np.int64).max], np.int64, "end")
    axis = make.constant([1], np.int64, "axis")
    start = make.op("Neg", [keep], "start", like=keep)
    batch, _, vocabulary = logits.shape
    width = None if hidden.shape is None else hidden.shape[2]
    kept = make.op(
        "Slice", [hidden, start, end, axis], "kept", dtype=hidden.dtype, shape=[batch, None, width]
    )
    replaced: dict[ir.Value | None, ir.Value] = {hidden: kept}
    for node in chain:
        made = make.copy(node, [replaced.get(v, v) for v in node.inputs], f"kept_{node.op_type}")
        replaced.update(zip(node.outputs, made, strict=True))
    result = replaced[logits]
    result.shape = ir.Shape([batch, 1, vocabulary])
    return Edit(
        f"{head.op_type} of the last positions",
        remove=chain,
        insert=make.nodes,
        initializers=make.initializers,
        add_inputs=[keep],
        replace={logits: result},
        adapter=LastTokenLogits(_KEEP, tokens.name or "", _LOGITS),
    )
