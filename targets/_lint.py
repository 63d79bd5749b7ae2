"""Rules about kernels: what a target runs slowly, or not as it says, asked of its `Capabilities`."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from graphopt.ir import node_name
from graphopt.lint import Finding, Subject, edited, rule

_EXPANDED = frozenset({"CausalConvWithState", "LinearAttention", "Mish", "SwiGLU", "Swish"})
"""Operators of ONNX's that are worth a kernel: made of others they take several passes over their input."""
_NBITS = ("com.microsoft", "MatMulNBits")
_FORMS = ((4, 32), (4, 128), (8, 32), (8, 128))  # bits and blocks that whoever has the operator takes


@rule("GO101", "accuracy-level", "warning", mends=["raise-accuracy-level"])
def accuracy_level(subject: Subject) -> Iterator[Finding]:
    """A product with a weight in blocks is computed in floats, not in int8.

    At accuracy_level 0 to 3 onnxruntime's CPU kernel of MatMulNBits widens weights to float32. At level 4 it
    rounds x to int8, a block at a time, and multiplies integers. onnxruntime's own quantizer leaves the level
    at 0 unless it is told; onnxruntime-genai's builder (0.18.0) writes 4 for the CPU. One row
    takes 3.4 times as long with 4 bits, 20 times with 8 (`python benchmarks/lint.py`: AVX512-VNNI).

    Build with accuracy level 4, or let `--fix` set it. The package then rounds activations, which it did not:
    measure the damage with `graphopt validate`.
    """
    return _remarked(subject, "accuracy-level")


@rule("GO102", "float-zero-points", "warning", mends=["round-zeros"])
def float_zeros(subject: Subject) -> Iterator[Finding]:
    """A weight in blocks has zero points in floats.

    onnxruntime's MatMulNBits has no fast kernel for zero points in floats, which is how HQQ writes them, and
    ignores accuracy_level 4 beside them. One row takes 13 times as long as with packed
    ones and the product for the rest, at accuracy level 0 (`python benchmarks/lint.py`).

    Round the zero points. `--fix` loses nothing by it: what rounding leaves becomes a small product of its
    own. Where the file asks for accuracy level 4, it is obeyed from then on.
    """
    return _remarked(subject, "float-zeros")


@rule("GO103", "ignored-zero-points", "error")
def ignored_zeros(subject: Subject) -> Iterator[Finding]:
    """A weight in blocks has an order of columns and packed zero points: the zero points are ignored.

    With g_idx onnxruntime's MatMulNBits (1.32.0) takes 2^(bits-1) for every zero point, whatever is stored:
    results are wrong, and nothing is said. A test of graphopt holds that it is so
    (tests/targets/test_rules.py), and fails once it is not.

    Make the package from the checkpoint with graphopt, which puts columns in order, or quantize without
    desc_act, or symmetrically.
    """
    return _remarked(subject, "ignored-zeros")


@rule("GO104", "ordered-columns", "warning")
def ordered_columns(subject: Subject) -> Iterator[Finding]:
    """A weight in blocks has its columns in an order of their own (g_idx).

    With g_idx onnxruntime's MatMulNBits dequantizes the whole weight in every call, and ignores
    accuracy_level 4. One row takes 32 times as long (`python benchmarks/lint.py`).

    Make the package from the checkpoint with graphopt, which puts x in the order of the columns instead, or
    quantize without desc_act.
    """
    return _remarked(subject, "ordered")


@rule("GO105", "block-size", "warning")
def block_size(subject: Subject) -> Iterator[Finding]:
    """A weight is in blocks that no kernel takes, or none in int8.

    MatMulNBits takes blocks of 16, 32, 64, 128 and 256. Of 2 bits, those of 16 and 256 have no kernel in int8
    (onnxruntime 1.32.0). One row takes 51 times as long in those of 256 as in 128
    (`python benchmarks/lint.py`).

    Quantize in blocks of 32 to 128.
    """
    yield from _remarked(subject, "block")
    for graph in subject.graphs:
        for node in graph.model.graph.all_nodes():
            if (reason := _refused_block(subject, node)) is not None:
                yield Finding(graph.file, node_name(node), reason)


@rule("GO106", "no-kernel", "error")
def no_kernel(subject: Subject) -> Iterator[Finding]:
    """The target has no kernel for an operator.

    The model does not load there. What has a kernel is asked of the installed runtime, or read off the
    target's table, which names its source and date: `graphopt targets show TARGET`.

    Export with another operator or type, or at another opset; `graphopt optimize` lowers what it knows.
    """
    for graph in subject.graphs:
        nodes = list(graph.model.graph.all_nodes())
        blocks = {node_name(node) for node in nodes if _refused_block(subject, node) is not None}
        for one in subject.capabilities.unsupported(graph.model):
            if one.node not in blocks:
                yield Finding(graph.file, one.node, f"{one.operator}: {one.reason}")


@rule("GO107", "expanded-operator", "warning", mends=["lower-quick-gelu", "lower-mish"])
def expanded(subject: Subject) -> Iterator[Finding]:
    """An operator has no kernel on the target, and is made of several others.

    The runtime expands Swish, Mish and the like to what their definition says, several passes over their
    input, and does not fuse these again. SiLU by way of Swish takes 1.6 times as long
    (`python benchmarks/lint.py`).

    Let `--fix` put what the target computes in fewer passes in its place, or export SiLU as x * sigmoid(x).
    """
    for graph in subject.graphs:
        refused = {one.node for one in subject.capabilities.unsupported(graph.model)}
        version = graph.model.opset_imports.get("", 1)
        for node in graph.model.graph.all_nodes():
            if node.domain or node.op_type not in _EXPANDED or node_name(node) in refused:
                continue
            if not subject.capabilities.supports("", node.op_type, version, {}):
                yield Finding(graph.file, node_name(node), f"{node.op_type} has no kernel of its own")


@rule("GO108", "dequantized-every-call", "warning", mends=["pack-dequantized"])
def dequantized(subject: Subject) -> Iterator[Finding]:
    """A quantized weight is dequantized in every call.

    onnxruntime (1.32.0) fuses DequantizeLinear and MatMul. With a Transpose between it does so only where no
    blocks are, nor several readers, and of 4 bits only where there are zero points; of DequantizeLinear and a
    Gemm with transB = 1 it does nothing. The weight becomes float32 again in every call. One row
    takes 34 times as long with 4 bits in blocks of 32 (`python benchmarks/lint.py`).

    Store the weight as [in, out] for a MatMul, or let `--fix` pack it for MatMulNBits. Either way activations
    are rounded to int8, which they are not now.
    """
    return edited(subject, "pack-dequantized")


@rule("GO109", "signed-activations", "note", mends=["shift-activations"])
def signed_activations(subject: Subject) -> Iterator[Finding]:
    """Activations are rounded to the kind of 8-bit integers that the target's kernels do not want.

    onnxruntime's integer kernels for x86 multiply unsigned activations by signed weights, as the processors'
    instructions do; GPUs and NPUs want both signed. With AVX512-VNNI
    onnxruntime 1.32.0 is as fast with signed ones (0.99 times, `python benchmarks/lint.py`).

    Quantize activations to uint8 for the CPU, to int8 for a GPU or an NPU. `--fix` moves integers and zero
    points by 128: what they stand for stays.
    """
    return edited(subject, "shift-activations")


@rule("GO110", "left-to-another-provider", "warning")
def left_to_others(subject: Subject) -> Iterator[Finding]:
    """The target leaves a node to another execution provider.

    What the node reads and gives is copied between the two in every call, and what stands around it cannot be
    compiled as one.

    Export with another operator, or optimize for this target: `graphopt optimize --target`.
    """
    for graph in subject.graphs:
        for one in subject.capabilities.left_to_others(graph.model):
            yield Finding(graph.file, one.node, f"{one.operator}: {one.reason}")


def _remarked(subject: Subject, kind: str) -> Iterator[Finding]:
    """Nodes of which the target has a remark of this kind."""
    for graph in subject.graphs:
        for remark in subject.capabilities.remarks(graph.model):
            if remark.kind == kind:
                yield Finding(graph.file, remark.node, remark.text)


def _refused_block(subject: Subject, node: ir.Node) -> str | None:
    if (node.domain, node.op_type) != _NBITS:
        return None
    bits, block = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 32)
    accepts = subject.capabilities.accepts
    try:
        taken = accepts("matmul-nbits", bits, block)
        # A target that takes no form says nothing of them: whether it has the operator is another rule's.
        knows = taken or any(accepts("matmul-nbits", *form) for form in _FORMS)
    except KeyError:
        return None
    return f"no kernel takes {bits} bits in blocks of {block}" if knows and not taken else None


RULES = (
    accuracy_level,
    float_zeros,
    ignored_zeros,
    ordered_columns,
    block_size,
    no_kernel,
    expanded,
    dequantized,
    signed_activations,
    left_to_others,
)
