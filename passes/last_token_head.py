"""last-token-head: the vocabulary is scored for the last positions only."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.pipeline import Context, Contract, Edit, Edits, LastTokenLogits, Level, NearMiss, Pass

_KEEP = "logits_to_keep"
_HEADS = {("", "MatMul"), ("com.microsoft", "MatMulNBits"), ("", "Gemm")}
_ELEMENTWISE = {"Mul", "Div", "Tanh", "Cast", "Add"}


class LastTokenHead(Pass):
    """The output projection sees the last `logits_to_keep` positions instead of all.

    Before: logits[batch, sequence, vocabulary] = MatMul(h, W), perhaps capped elementwise
    After:  logits[batch, 1, vocabulary] = MatMul(h[:, -logits_to_keep:], W); logits_to_keep int64[1] is an
            initializer of value 1 that is also an input, so that whoever wants every position can ask
    Refuses: a model whose `logits` are used inside the graph or do not come from a projection.
    """

    name: ClassVar[str] = "last-token-head"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.exact()
    main_graph_only: ClassVar[bool] = True

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        if context.task != "text-generation" or _KEEP in graph.initializers:
            return
        logits = next((v for v in graph.outputs if v.name == "logits"), None)
        if logits is None or logits.uses():
            yield NearMiss("logits", "no output of that name, or it is used inside the graph")
            return
        chain = _to_head(logits)
        if chain is None:
            yield NearMiss("logits", "they do not come from a projection")
            return
        yield _sliced(graph, logits, chain)
        context.assume(
            "last-token-logits",
            "logits are those of the last position; feed logits_to_keep for more, as a right-padded batch needs",
        )


def _to_head(logits: ir.Value) -> list[ir.Node] | None:
    """Nodes from the projection to the output: it and what follows elementwise."""
    chain: list[ir.Node] = []
    value: ir.Value | None = logits
    while value is not None and (node := value.producer()) is not None:
        chain.append(node)
        if (node.domain, node.op_type) in _HEADS:
            return chain[::-1]
        if node.op_type not in _ELEMENTWISE or len(node.outputs[0].uses()) > 1:
            return None
        inputs = [v for v in node.inputs if v is not None and not v.is_initializer()]
        value = inputs[0] if len(inputs) == 1 else None
    return None


def _sliced(graph: ir.Graph, logits: ir.Value, chain: list[ir.Node]) -> Edit:
    head = chain[0]
    hidden = head.inputs[0]
    assert hidden is not None
    keep = ir.Value(name=_KEEP, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    keep.const_value = ir.tensor(np.asarray([1], np.int64), name=_KEEP)
    tape = ir.tape.Tape()
    end = tape.initializer(ir.tensor(np.asarray([np.iinfo(np.int64).max])), f"{_KEEP}/end")
    axis = tape.initializer(ir.tensor(np.asarray([1], np.int64)), f"{_KEEP}/axis")
    start = tape.op("Neg", [keep], name=f"{_KEEP}/start")
    kept = tape.op("Slice", [hidden, start, end, axis], name=f"{_KEEP}/slice")
    kept.dtype = hidden.dtype
    replaced = {hidden: kept}
    for node in chain:
        inputs = [replaced.get(v, v) if v is not None else None for v in node.inputs]
        outputs = tape.op_multi_out(
            node.op_type,
            inputs,
            {name: a for name, a in node.attributes.items()},
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        for old, new in zip(node.outputs, outputs, strict=True):
            new.dtype, replaced[old] = old.dtype, new
    sequence = next(v.name for v in graph.inputs if v.dtype == ir.DataType.INT64 and v.name != _KEEP)
    last = replaced[logits]
    if logits.shape is not None:
        last.shape = ir.Shape([logits.shape[0], 1, logits.shape[2]])
    return Edit(
        "last-token head",
        remove=chain,
        insert=tape.nodes,
        initializers=[keep, *tape.initializers],
        add_inputs=[keep],
        replace={logits: last},
        adapter=LastTokenLogits(_KEEP, str(sequence), "logits"),
        before=head,
    )
