"""Operators and graphs in PyTorch compute what onnxruntime does."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from graphopt_passes._nbits import quantize_rows, unpacked
from graphopt_passes._torch_graph import TorchGraph, Unsupported, rounded_to_8_bits
from graphopt_passes._torch_operators import OPERATORS

from graphopt.ir import ConstantMatrix, constant_matrix, evaluate, extract, parse
from tests.passes._canonical import GEMMA2, GPT2, Call, Domain, Shape, canonical_decoder

Array = np.ndarray[Any, Any]
_X = "float[2,3,4,8] x"
_PAIR = f"{_X}, float[4,8] b"
_FLAGS = f"{_X}, bool[4,8] f"
_QKV = "float[2,4,3,8] q, float[2,2,3,8] k, float[2,2,3,8] v"
_PAST = f"{_QKV}, float[2,1,3,8] m, float[2,2,5,8] pk, float[2,2,5,8] pv"

# Inputs, then what is computed of them.
CASES = [
    *((_X, f"y = {op}(x)") for op in ("Abs", "Neg", "Sigmoid", "Tanh", "Erf", "Exp", "Relu", "Softplus")),
    *((_X, f"y = {op}(x)") for op in ("Sin", "Cos", "Identity", "Gelu", "Shape")),
    *((_PAIR, f"y = {op}(x, b)") for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *((_PAIR, f"y = {op}(x, b)") for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    *((f"{_FLAGS}, bool[8] g", f"y = {op}(f, g)") for op in ("And", "Or")),
    (_FLAGS, "y = Not(f)"),
    ("int64[4] x, int64[4] b", "y = Div(x, b)"),
    (_X, "s = Abs(x) y = Sqrt(s)"),
    (_X, "e = Exp(x) y = Reciprocal(e)"),
    (_X, "two = Constant<value_float = 2.0>() y = Pow(x, two)"),
    (_X, 'y = Gelu<approximate = "tanh">(x)'),
    (_X, "low = Constant<value_float = -0.5>() y = Clip(x, low)"),
    (_X, "low = Constant<value_float = -0.5>() high = Constant<value_float = 0.7>() y = Clip(x, low, high)"),
    (_X, "y = Clip(x)"),
    (_X, "y = Swish<alpha = 0.7>(x)"),
    (_FLAGS, "n = Neg(x) y = Where(f, x, n)"),
    (f"{_X}, float[8,5] b", "y = MatMul(x, b)"),
    ("float[3,4] a, float[4,5] b, float[5] c", "y = Gemm(a, b, c)"),
    ("float[4,3] a, float[5,4] b, float[5] c",
     "y = Gemm<transA = 1, transB = 1, alpha = 0.5, beta = 2.0>(a, b, c)"),
    ("float[3,4] a, float[4,5] b", "y = Gemm(a, b)"),
    (f"{_X}, float[8] g", "y = RMSNormalization<epsilon = 0.01>(x, g)"),
    (f"{_X}, float[4,8] g", "y = RMSNormalization<axis = 2>(x, g)"),
    (f"{_X}, float[8] g", "y = SimplifiedLayerNormalization<epsilon = 0.01>(x, g)"),
    (f"{_X}, float[8] g, float[8] c", "y = LayerNormalization<epsilon = 0.01>(x, g, c)"),
    (f"{_X}, float[8] g", "y = LayerNormalization(x, g)"),
    (_X, "y = Softmax<axis = 1>(x)"),
    (_X, "s = Constant<value_ints = [0, 12, -1]>() y = Reshape(x, s)"),
    (_X, "y = Transpose<perm = [0, 2, 1, 3]>(x)"),
    (_X, "y = Transpose(x)"),
    (_X, "n = Neg(x) y = Concat<axis = -1>(x, n)"),
    (_X, "s = Constant<value_ints = [3, 5]>() y, z = Split<axis = -1>(x, s)"),
    (_X, "y, z = Split<axis = 3, num_outputs = 2>(x)"),
    (_X, "a = Constant<value_ints = [1, -7]>() e = Constant<value_ints = [9223372036854775807, -2]>() "
         "i = Constant<value_ints = [2, 3]>() y = Slice(x, a, e, i)"),
    (_X, "a = Constant<value_ints = [-1]>() e = Constant<value_ints = [-9223372036854775807]>() "
         "i = Constant<value_ints = [3]>() s = Constant<value_ints = [-2]>() y = Slice(x, a, e, i, s)"),
    (_X, "a = Constant<value_ints = [0, -1]>() y = Unsqueeze(x, a)"),
    ("float[1,3,1] x", "a = Constant<value_ints = [0]>() y = Squeeze(x, a)"),
    ("float[1,3,1] x", "y = Squeeze(x)"),
    ("float[3,1] x", "s = Constant<value_ints = [2, 1, 4]>() y = Expand(x, s)"),
    (_X, "y = Cast<to = 7>(x)"),
    (_X, "y = Shape<start = 1, end = -1>(x)"),
    (_X, "i = Constant<value_ints = [2, -1]>() y = Gather<axis = 1>(x, i)"),
    (_X, "i = Constant<value_ints = [-1, 1]>() y = ReduceMean<keepdims = 0>(x, i)"),
    (_X, "y = ReduceSum(x)"),
    (_X, "y = ReduceSum<noop_with_empty_axes = 1>(x)"),
    ("float[2,4,3,8] x, float[9,4] c, float[9,4] s, int64[2,3] p", "y = RotaryEmbedding(x, c, s, p)"),
    ("float[2,4,3,8] x, float[2,3,4] c, float[2,3,4] s", "y = RotaryEmbedding<interleaved = 1>(x, c, s)"),
    ("float[2,3,32] x, float[9,2] c, float[9,2] s, int64[2,3] p",
     "y = RotaryEmbedding<num_heads = 4, rotary_embedding_dim = 4>(x, c, s, p)"),
    (_QKV, "y = Attention(q, k, v)"),
    (_QKV, "y = Attention<is_causal = 1, scale = 0.3>(q, k, v)"),
    (_PAST, "y, nk, nv = Attention(q, k, v, m, pk, pv)"),
    (_PAST, "y, nk, nv = Attention<softcap = 0.5>(q, k, v, m, pk, pv)"),
    (f"{_QKV}, bool[3,3] f", "y = Attention(q, k, v, f)"),
    ("float[2,3,32] q, float[2,3,16] k, float[2,3,16] v",
     "y = Attention<q_num_heads = 4, kv_num_heads = 2, is_causal = 1>(q, k, v)"),
]  # fmt: skip


def _model(inputs: str, nodes: str) -> ir.Model:
    opset = 24 if "Swish" in nodes else 23
    return parse(f'<ir_version: 10, opset_import: ["": {opset}]> g ({inputs}) => (float y) {{ {nodes} }}')


def _feeds(graph: ir.Graph) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {}
    for value in graph.inputs:
        assert value.shape is not None
        assert value.name is not None
        shape = value.shape.numpy()
        made: Array = rng.standard_normal(shape).astype(np.float32)
        if value.dtype == ir.DataType.INT64:
            made = np.asarray(rng.integers(1, 9, shape))
        elif value.dtype == ir.DataType.BOOL:
            made = made > -0.5
        feeds[value.name] = made
    return feeds


def _in_torch(graph: ir.Graph, feeds: Mapping[str, Array]) -> Any:
    values = {v: torch.from_numpy(feeds[v.name or ""]) for v in graph.inputs}
    for node in graph:
        if node.op_type == "Constant":
            made: Any = torch.from_numpy(_constant(node))
        else:
            made = OPERATORS[node.op_type](node, *(values[v] for v in node.inputs if v is not None))
        values.update(zip(node.outputs, made if isinstance(made, list) else [made], strict=False))
    return values[graph.outputs[0]]


def _constant(node: ir.Node) -> Array:
    (attribute,) = node.attributes.values()
    return np.asarray(attribute.value, np.int64 if attribute.name == "value_ints" else np.float32)


@pytest.mark.parametrize(("inputs", "nodes"), CASES, ids=[nodes for _, nodes in CASES])
def test_an_operator_computes_what_it_does_in_onnxruntime(inputs: str, nodes: str) -> None:
    model = _model(inputs, nodes)
    feeds = _feeds(model.graph)
    made = _in_torch(model.graph, feeds).numpy()
    model.graph.outputs[0].dtype = ir.DataType.from_numpy(made.dtype)  # else onnxruntime refuses the model
    (wanted,) = evaluate(model, feeds)
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=2e-6)


def test_every_operator_is_tried() -> None:
    tried = {node.op_type for case in CASES for node in _model(*case).graph}
    assert set(OPERATORS) <= tried


@pytest.mark.parametrize(
    "shape",
    [Shape(), Shape(qk_norm="before", projection="slices"), Shape(projection="split"), GPT2, GEMMA2],
    ids=["llama", "qwen3", "packed", "gpt2", "gemma2"],
)
def test_a_decoder_computes_what_it_does_in_onnxruntime(shape: Shape) -> None:
    graph = canonical_decoder(shape).graph
    piece, exact = _piece(graph)
    feeds = Domain(shape).case(Call("chunk", 2, 4, 5), np.random.default_rng(0)).feeds
    computed = [v for v in (*piece.given, *piece.outputs) if v.producer() is not None]
    made = dict(zip(computed, evaluate(extract(graph, computed), feeds), strict=True))
    given = [torch.from_numpy(made[v] if v in made else feeds[v.name or ""]) for v in piece.given]
    (logits,) = piece(exact, given)
    np.testing.assert_allclose(logits.numpy(), made[piece.outputs[0]], rtol=1e-4, atol=1e-5)


def test_only_what_changes_with_the_weights_is_computed() -> None:
    graph = canonical_decoder().graph
    piece, _ = _piece(graph)
    names = {value.name for value in piece.given}
    assert {"position_ids", "past_key_values.0.key"} <= names
    assert names.isdisjoint({"input_ids", "attention_mask", "present.0.key", "logits"})


def test_a_tied_table_changes_with_its_weight() -> None:
    graph = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (int64[B,S] ids) => (float[B,S,5] logits)
        <float[5,2] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}> {
          x = Gather(w, ids)  t = Transpose<perm = [1, 0]>(w)  logits = MatMul(x, t)
        }
    """).graph
    (key,) = {f.rows.identity for f in map(constant_matrix, graph) if isinstance(f, ConstantMatrix)}
    weight, ids = torch.ones(5, 2), torch.tensor([[0, 4]])
    (tied,) = TorchGraph(graph, graph.outputs, {key: None}, {key})({key: weight}, [ids])
    assert tied.tolist() == [[[2.0] * 5] * 2]
    alone = TorchGraph(graph, graph.outputs, {key: None}, ())
    assert [value.name for value in alone.given] == ["x"]


def test_an_operator_that_is_not_known_is_named() -> None:
    graph = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[B,2] x) => (float[B,2] y) <float[2,2] w = {1, 2, 3, 4}> { m = MatMul(x, w)  y = Det(m) }
    """).graph
    with pytest.raises(Unsupported, match="no Det in PyTorch"):
        _piece(graph)


@pytest.mark.parametrize(("bits", "block"), [(2, 32), (4, 16), (4, 32), (8, 32)])
def test_activations_are_rounded_as_the_kernel_rounds_them(bits: int, block: int) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 64), np.float32), rng.standard_normal((8, 64), np.float32)
    packed = quantize_rows(w.copy(), bits, block)
    weight, scales = ("{" + ", ".join(map(str, a.ravel())) + "}" for a in (packed.weight, packed.scales))
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g (float[3,64] x) => (float[3,8] y)
        <uint8[8,{64 // block},{block * bits // 8}] w = {weight}, float[8,{64 // block}] s = {scales}> {{
          y = com.microsoft.MatMulNBits<
            K = 64, N = 8, bits = {bits}, block_size = {block}, accuracy_level = 4>(x, w, s)
        }}
    """)
    (kernel,) = evaluate(model, {"x": x})
    exact = torch.from_numpy(unpacked(packed, bits, 64))
    ours = rounded_to_8_bits(torch.from_numpy(x), block) @ exact.T
    np.testing.assert_allclose(ours.numpy(), kernel, atol=2e-5)
    assert (torch.from_numpy(x) @ exact.T - ours).abs().max() > 1e-3


def test_gradients_pass_what_is_rounded() -> None:
    x = torch.linspace(-1, 1, 32, requires_grad=True)
    rounded_to_8_bits(x, 16).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [1.0] * 32


def _piece(graph: ir.Graph) -> tuple[TorchGraph, dict[Hashable, torch.Tensor]]:
    """All of the graph behind its products, and their weights."""
    found = [f for f in map(constant_matrix, graph) if isinstance(f, ConstantMatrix)]
    exact = {f.rows.identity: torch.from_numpy(f.rows.read()) for f in found}
    return TorchGraph(graph, graph.outputs[:1], dict.fromkeys(exact), exact.keys()), exact
