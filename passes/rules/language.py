"""Rules about models that write text."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir import MICROSOFT, node_name, producer, stored_bytes
from graphopt.lint import Finding, LintedGraph, Subject, edits_of, rule
from graphopt.pipeline import weight_bytes
from graphopt.recipes import Step

_AROUND = {"Add", "Cast", "Div", "Mul", "Tanh"}  # what may follow a head: a bias, a scale, a cap
_PACKED = {"MatMulNBits", "GatherBlockQuantized", "QMoE"}
_SHARE = 0.1
"""Of all bytes of weights a head in floats has to take, to be told of. A judgement: quartering it then saves
7 % of what a token reads."""


@rule("GO301", "growing-cache", "warning", mends=["lower-attention"])
def growing_cache(subject: Subject) -> Iterator[Finding]:
    """Keys and values are copied in every step: the cache is a new tensor, one token longer.

    A step copies the whole cache of each layer, and allocates it. A kernel that writes into one buffer for
    past and present copies one row. A layer of 16 heads of 128 that shares keys and values by two takes 0.87
    ms after 2,047 tokens with a shared buffer, 2.73 with a growing one, 4.55 spelled out (onnxruntime 1.32.0,
    two cores with AVX512-VNNI, by hand, November 2026).

    Let `--fix` fuse the attention: the target's kernel for it shares the buffer.
    """
    for graph in subject.graphs:
        for output in graph.model.graph.outputs:
            node = producer(output, "Concat")
            past = node.inputs[0] if node is not None and len(node.inputs) == 2 else None
            if node is None or past is None or not past.is_graph_input() or past.is_initializer():
                continue
            if past.shape is not None and len(past.shape) == 4:
                yield Finding(graph.file, node_name(node), f"{output.name} is {past.name} and what is new")


@rule("GO302", "float-head", "warning")
def float_head(subject: Subject) -> Iterator[Finding]:
    """The output projection is in floats in a model whose other weights are in blocks.

    Writing a token reads every weight once, so time goes with bytes: a head of 128,256 tokens and a width of
    2,048 takes 1.05 GB in float32, where a billion 4-bit weights take half a gigabyte.

    Quantize the head, too: `graphopt optimize` keeps it at 8 bits where 4 do damage. `--fix` leaves it:
    rounding weights is for whoever can measure what it does.
    """
    for graph in subject.graphs:
        if not any(_is_packed(node) for node in graph.model.graph):
            continue
        for output in graph.model.graph.outputs:
            node = output.producer()
            while node is not None and node.op_type in _AROUND:
                first = node.inputs[0]
                node = first.producer() if first is not None else None
            if (size := _weight_of_product(node)) is None or node is None:
                continue
            share = size / max(weight_bytes(graph.model), 1)
            if share >= _SHARE:
                said = f"{size:,} bytes in floats, {share:.0%} of all weights, beside others in blocks"
                yield Finding(graph.file, node_name(node), said)


def _is_packed(node: ir.Node) -> bool:
    return node.domain == MICROSOFT and node.op_type in _PACKED


def _weight_of_product(node: ir.Node | None) -> int | None:
    """Bytes of the constant float matrix that `node` multiplies by; None where it is no such product."""
    if node is None or node.domain or node.op_type not in ("MatMul", "Gemm"):
        return None
    weight = node.inputs[1]
    turn = producer(weight, "Transpose")
    weight = weight if turn is None else turn.inputs[0]
    if weight is None or weight.const_value is None or weight.dtype is None:
        return None
    return stored_bytes(weight.const_value) if weight.dtype.is_floating_point() else None


@rule("GO303", "all-logits", "warning", mends=[Step("last-token-head", {"any_task": True})])
def all_logits(subject: Subject) -> Iterator[Finding]:
    """The output projection runs for every position of a prompt, and onnxruntime-genai reads the last.

    For a prompt of 256 tokens that is 255 products with the largest weight of the model, and logits of 256 x
    vocabulary numbers. onnxruntime-genai's builder cuts them with prune_lm_head=true. With that and the right
    number of threads (GO601) its package of a Llama-3.2-1B's shape reads 2.4 times as fast as at its defaults
    (docs/performance.md).

    Build with prune_lm_head, or let `--fix` cut them: the input `logits_to_keep` asks for more.
    """
    if subject.settings is None:
        return
    for graph in subject.graphs:
        for edit in edits_of(graph, "last-token-head"):
            yield Finding(graph.file, _head(graph), f"logits of every position: {edit.summary} would do")


def _head(graph: LintedGraph) -> str:
    logits = next((value for value in graph.model.graph.outputs if value.name == "logits"), None)
    node = logits.producer() if logits is not None else None
    return node_name(node) if node is not None else ""


LANGUAGE = (growing_cache, float_head, all_logits)
