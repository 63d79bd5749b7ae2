"""Rules about what exporters leave spelled out."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir import node_name, producer
from graphopt.lint import Finding, Subject, edited, edits_of, rule

from .._positions import UNKNOWN_END


@rule("GO201", "unfused-norm", "warning", mends=["raise-rms-norm", "raise-layer-norm"])
def unfused_norm(subject: Subject) -> Iterator[Finding]:
    """A normalization is spelled out in operators that each pass over the data.

    onnxruntime's optimizer fuses some spellings at load and leaves others. What it leaves is computed in six
    to nine passes over the activations, each of which allocates. An encoder of opset 13 whose
    products are in int8 takes 1.2 times as long with norms and attention spelled out as fused (`python
    benchmarks/lint.py`).

    Export at opset 23, or let `--fix` fuse it.
    """
    return edited(subject, "raise-rms-norm", "raise-layer-norm")


@rule("GO202", "unfused-rotary-embedding", "warning", mends=["raise-rope"])
def unfused_rotary(subject: Subject) -> Iterator[Finding]:
    """A rotary embedding is spelled out in slices, negations and concatenations.

    onnxruntime's optimizer (1.32.0) does not fuse it, nor then the attention with a cache around it, which is
    what costs: see GO203 and GO301.

    Export at opset 23, or let `--fix` fuse it. That takes a table as long as the longest text: where a file
    computes its angles, only the model's configuration says how long that is, so start from its folder.
    """
    yield from edited(subject, "raise-rope")
    for graph in subject.graphs:
        found = [
            miss for miss in graph.trial.misses if (miss.name, miss.reason) == ("raise-rope", UNKNOWN_END)
        ]
        for miss in dict.fromkeys(found):
            yield Finding(graph.file, miss.where, miss.reason)


@rule("GO203", "unfused-attention", "warning", mends=["raise-attention"])
def unfused_attention(subject: Subject) -> Iterator[Finding]:
    """Attention is spelled out: two products and a softmax, whose scores are stored whole.

    Scores are batch x heads x queries x keys numbers, written and read several times; a kernel for attention
    holds a few rows of them. onnxruntime's CPU provider (1.32.0) does not fuse it at load. An encoder of
    opset 13 whose products are in int8 takes 1.2 times as long with norms and attention spelled out as fused
    (`python benchmarks/lint.py`).

    Export at opset 23, or let `--fix` fuse it.
    """
    return edited(subject, "raise-attention")


@rule("GO204", "needless-moves", "warning", mends=["cancel-transposes", "remove-noops"])
def needless_moves(subject: Subject) -> Iterator[Finding]:
    """Transposes or Casts undo each other.

    Each copies the whole activation. onnxruntime removes many of them at load, by pushing them through what
    stands between; other runtimes have them all. Of a net as TensorFlow's exporters wrote it 28 of 59 nodes
    go, it runs as fast as before, and opens in 0.8 of the time (docs/decisions/convolutional-nets.md).

    Let `--fix` cancel them.
    """
    for graph in subject.graphs:
        for edit in edits_of(graph, "cancel-transposes"):
            turns = [node for node in edit.nodes if node.op_type == "Transpose" and not node.domain]
            if turns:
                yield Finding(graph.file, node_name(turns[0]), edit.summary)
        for edit in edits_of(graph, "remove-noops"):
            for node in edit.nodes:
                if _is_there_and_back(node):
                    yield Finding(graph.file, node_name(node), "a Cast to another type and back")


@rule("GO205", "batch-normalization", "note", mends=["fold-batch-norm"])
def batch_norm(subject: Subject) -> Iterator[Finding]:
    """BatchNormalization stands behind a layer whose weights could hold it.

    onnxruntime folds it at load where its optimizations are on, so that it runs as fast; a ResNet-18 opens in
    half of the time without (docs/decisions/convolutional-nets.md). Other runtimes, and who quantizes or
    calibrates the file, have a layer more.

    Export in evaluation mode with constant folding, or let `--fix` fold it.
    """
    return edited(subject, "fold-batch-norm")


@rule("GO206", "changed-at-load", "error", mends=["shield-forms", "name-all-axes"])
def changed_at_load(subject: Subject) -> Iterator[Finding]:
    """onnxruntime's optimizer makes something else of it at load: other numbers, or what does not run.

    By default onnxruntime 1.32.0 takes a Gather by a Range that goes down, or starts below zero, for a Slice,
    and returns nothing; 1/x * y of integers for y/x; a Relu before a rounding to 4 bits, or to floats of 8,
    for one that rounding does; MaxPool of int4 for an operator that it has. It moves a Transpose past a Pad
    or Resize without a look at the axes that they name. Each is right with optimizations off, and a script
    in findings/ shows it (onnxruntime-range-gather, -integer-reciprocal, -relu-before-four-bits,
    -four-bit-activations, -axes-behind-transpose).

    Let `--fix` write it in a form that the optimizer leaves.
    """
    for graph in subject.graphs:
        turned = any(node.op_type == "Transpose" and not node.domain for node in graph.model.graph)
        for edit in edits_of(graph, "shield-forms", *(["name-all-axes"] if turned else [])):
            yield Finding(graph.file, node_name(edit.nodes[0]), edit.summary)


def _is_there_and_back(node: ir.Node) -> bool:
    """Whether a Cast of floats gives the type that another Cast before it has taken away."""
    inner = producer(node.inputs[0], "Cast") if node.op_type == "Cast" and not node.domain else None
    before = inner.inputs[0] if inner is not None else None
    dtype = node.outputs[0].dtype
    if before is None or dtype is None or node.inputs[0] is None:
        return False
    return before.dtype == dtype != node.inputs[0].dtype and dtype.is_floating_point()


STRUCTURE = (unfused_norm, unfused_rotary, unfused_attention, needless_moves, batch_norm, changed_at_load)
