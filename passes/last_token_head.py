"""last-token-head: the vocabulary is scored for the last positions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from graphopt.families import Assumption
from graphopt.ir import MICROSOFT, is_output
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._adapters import LastTokenLogits
from .refine_head import refined_head

_KEEP = "logits_to_keep"
_LOGITS = "logits"
_MASK = "attention_mask"
_LAST = Assumption("last-token-logits", f"logits are those of the last token; feed {_KEEP} to get more")
_END = np.iinfo(np.int64).max  # of a Slice: to the end, whatever the size
_HEADS = {("", "MatMul"), (MICROSOFT, "MatMulNBits")}
# What may follow the head: a bias, a scale, a cap.
_ELEMENTWISE = frozenset({"Add", "Cast", "Div", "Mul", "Tanh"})


class LastTokenHead(Pass):
    """The output projection of a language model sees the last `logits_to_keep` tokens of each row only.

    Before: logits[batch, sequence, vocabulary] = MatMul(h, W), perhaps scaled or capped
    After:  logits[batch, 1, vocabulary] = MatMul(h[last tokens], W); logits_to_keep int64[1] is a weight
            of value 1 that is also an input, so that who needs more positions can ask for them
    A row that `attention_mask` shows to be padded on the right gives its last tokens, not its padding; asking
    for as many as there are gives every position in order. Without such an input, the last positions.
    The output is declared with one position, as onnxruntime-genai wants it, and has as many as asked for.
    So does what `refine-head` made of one. Refuses: logits that are used in the graph too, or that do not
    come from a MatMul (or MatMulNBits). Tasks other than text generation are passed over, unless an option
    says that whoever runs the graph looks at the last position only.
    """

    name: ClassVar[str] = "last-token-head"
    level: ClassVar[Level] = Level.LOWER
    contract: ClassVar[Contract] = Contract.exact()
    opsets: ClassVar[OpsetRange] = OpsetRange(15, None)
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """any_task: also where nobody says that the model generates text."""

        any_task: bool = False

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        is_asked = context.task == "text-generation" or self.options.any_task
        if not is_asked or _KEEP in graph.initializers:
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
        mask = next((value for value in graph.inputs if value.name == _MASK), None)
        yield _pruned(logits, chain, tokens, mask)


def _from_head(logits: ir.Value) -> list[ir.Node] | str:
    """The nodes from the projection to the output, or why there are none."""
    chain: list[ir.Node] = []
    value = logits
    while (node := value.producer()) is not None:
        if value.uses() if value is logits else len(value.uses()) > 1 or is_output(value):
            return "they are used in the graph too"
        if node.op_type == "ScatterElements" and node.domain == "":
            refined = refined_head(node)
            return [*refined, *chain] if refined else "they do not come from a projection"
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


def _pruned(logits: ir.Value, chain: list[ir.Node], tokens: ir.Value, mask: ir.Value | None) -> Edit:
    head = chain[0]
    hidden = head.inputs[0]
    assert hidden is not None
    assert logits.shape is not None
    make = Nodes(head.name or "head")
    keep = make.weight(ir.tensor(np.asarray([1], np.int64)), _KEEP)
    kept = _last_positions(hidden, keep, make) if mask is None else _last_tokens(hidden, keep, mask, make)
    batch, _, vocabulary = logits.shape
    kept.shape = ir.Shape([batch, None, None if hidden.shape is None else hidden.shape[2]])
    replaced: dict[ir.Value | None, ir.Value] = {hidden: kept}
    for node in chain:
        made = make.copy(node, [replaced.get(v, v) for v in node.inputs], f"kept_{node.op_type}")
        replaced.update(zip(node.outputs, made, strict=True))
    result = replaced[logits]
    result.shape = ir.Shape([batch, 1, vocabulary])
    return Edit(
        f"{head.op_type} of the last tokens",
        remove=chain,
        insert=make.nodes,
        initializers=make.initializers,
        add_inputs=[keep],
        replace={logits: result},
        adapter=LastTokenLogits(_KEEP, tokens.name or "", _LOGITS),
        assumes=[_LAST],
    )


def _last_positions(hidden: ir.Value, keep: ir.Value, make: Nodes) -> ir.Value:
    end, axis = make.constant([_END], np.int64, "end"), make.constant([1], np.int64, "axis")
    start = make.op("Neg", [keep], "start", like=keep)
    return make.op("Slice", [hidden, start, end, axis], "kept", dtype=hidden.dtype)


def _last_tokens(hidden: ir.Value, keep: ir.Value, mask: ir.Value, make: Nodes) -> ir.Value:
    """Of each row of `hidden` the `keep` places that end with its last token, or the first `keep` ones."""
    int64 = ir.DataType.INT64
    end, one = make.constant([_END], np.int64, "end"), make.constant([1], np.int64, "one")
    zero, step = make.constant(0, np.int64, "zero"), make.constant(1, np.int64, "step")
    sequence = make.op("Shape", [hidden], "sequence", dtype=int64, shape=[1], start=1, end=2)
    first_new = make.op("Neg", [sequence], "first_new", like=sequence)
    new = make.op("Slice", [mask, first_new, end, one], "new_mask", dtype=int64, shape=[None, None])
    last = make.op(
        "ArgMax", [new], "last_token", dtype=int64, shape=[None, 1], axis=1, keepdims=1, select_last_index=1
    )
    back = make.op("Sub", [one, keep], "back", like=keep)
    start = make.op("Add", [last, back], "start", like=last)
    start = make.op("Max", [start, zero], "first_kept", like=last)
    count = make.op("Squeeze", [keep], "count", dtype=int64, shape=[])
    steps = make.op("Range", [zero, count, step], "steps", dtype=int64, shape=[None])
    places = make.op("Add", [start, steps], "places", dtype=int64, shape=[None, None])
    indices = make.op("Unsqueeze", [places, make.constant([2], np.int64, "axis")], "indices", dtype=int64)
    return make.op("GatherND", [hidden, indices], "kept", dtype=hidden.dtype, batch_dims=1)
