"""Graphs of one node: what a runtime is probed with, operator by operator.

They are the node tests of the onnx package, at every version of the operator that their attributes and inputs
are legal for; and operators of com.microsoft, and layers as nets have them, on the smallest inputs that make
sense. QuantizeLinear and DequantizeLinear are tried where they belong, around a product: runtimes take them
for how that is computed.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["OneNode", "one_node_graphs"]

_OLDEST = 7
"""The first opset that graphopt takes."""


@dataclass(frozen=True)
class OneNode:
    """A model of one node with legal inputs, and what should come out, where that is known.

    `version` of the operator's domain is the one that brought this form.
    """

    domain: str
    operator: str
    version: int
    model: onnx.ModelProto
    feeds: Mapping[str, NDArray[Any]]
    expected: Mapping[str, NDArray[Any]]


def one_node_graphs() -> Iterator[OneNode]:
    """All of them; several may have the same form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx's tests overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        tests = collect_testcases(None)
    yield from map(_contrib, range(len(_CONTRIB)))
    for version, operator in itertools.product((13, 19, 21, 23), ("DequantizeLinear", "QuantizeLinear")):
        yield _quantized(operator, version)
    yield _cast()
    for test in tests:
        model = test.model
        if model is None or len(model.graph.node) != 1 or not test.data_sets:
            continue
        inputs, outputs = test.data_sets[0]
        values = (*model.graph.input, *model.graph.output)
        if not all(isinstance(array, np.ndarray | np.generic) for array in (*inputs, *outputs)):
            continue
        if not all(value.type.tensor_type.elem_type for value in values):
            continue  # sequences and optional values
        feeds = {v.name: np.asarray(a) for v, a in zip(model.graph.input, inputs, strict=False)}
        expected = {v.name: np.asarray(a) for v, a in zip(model.graph.output, outputs, strict=False)}
        yield from _versions(model, feeds, expected)


def _versions(
    model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> Iterator[OneNode]:
    node = model.graph.node[0]
    newest = {o.domain: o.version for o in model.opset_import}.get(node.domain, 1)
    schemas = {v: s for v, s in _schemas()[node.domain, node.op_type].items() if v <= newest}
    for since, schema in schemas.items():
        version = max(since, _OLDEST) if not node.domain else since
        if schema.deprecated or any(since < s <= version for s in schemas):
            continue
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        del changed.opset_import[:]
        changed.opset_import.append(helper.make_opsetid(node.domain, version))
        changed.ir_version = 10
        try:
            onnx.checker.check_model(changed, full_check=True)
        except Exception:  # the attributes or inputs are not of this version
            continue
        wanted = expected if since == max(schemas) else {}
        case = OneNode(node.domain, node.op_type, since, changed, feeds, wanted)
        others = list(feeds)[1:]
        held = [name for name in others if feeds[name].dtype == np.int64]
        if len(node.output) > 1 and node.output[0]:
            yield _first_alone(_with_constants(case, others))
        for some in ([held] if held else []) + ([others] if others and others != held else []):
            yield _with_constants(case, some)
        yield case


def _with_constants(case: OneNode, held: Collection[str]) -> OneNode:
    """The same with some inputs as constants, as axes and sizes mostly are in graphs."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.graph.initializer.extend(numpy_helper.from_array(case.feeds[name], name) for name in held)
    inputs = [value for value in model.graph.input if value.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    feeds = {name: array for name, array in case.feeds.items() if name not in held}
    return replace(case, model=model, feeds=feeds)


def _first_alone(case: OneNode) -> OneNode:
    """The same without the outputs behind the first, as layers of nets are."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    first = model.graph.node[0].output[0]
    del model.graph.node[0].output[1:]
    del model.graph.output[1:]
    return replace(
        case, model=model, expected={name: array for name, array in case.expected.items() if name == first}
    )


def _quantized(operator: str, version: int) -> OneNode:
    """A product of int8 as it is written with DequantizeLinear and QuantizeLinear."""
    pairs = (("qx", "x", "xs", "z"), ("qy", "m", "ys", "z"))
    nodes = [helper.make_node("QuantizeLinear", list(inputs), [name]) for name, *inputs in pairs]
    nodes += [
        helper.make_node("DequantizeLinear", [value, scale, zero], [name])
        for name, value, scale, zero in (
            ("dx", "qx", "xs", "z"),
            ("dw", "w", "ws", "wz"),
            ("y", "qy", "ys", "z"),
        )
    ]
    nodes.append(helper.make_node("MatMul", ["dx", "dw"], ["m"]))
    order = {"qx": 0, "dx": 1, "dw": 2, "m": 3, "qy": 4, "y": 5}
    nodes.sort(key=lambda node: order[node.output[0]])
    constants = {
        "xs": np.float32(0.03),
        "ys": np.float32(0.1),
        "ws": np.float32(0.01),
        "z": np.uint8(128),
        "wz": np.int8(0),
        "w": np.random.default_rng(0).integers(-100, 100, (64, 32)).astype(np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (16, 64))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (16, 32))],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=10)
    feeds = {"x": _random(16, 64)}
    return OneNode("", operator, version, model, feeds, {})


def _cast() -> OneNode:
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT32, (2, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    return OneNode("", "Cast", 21, model, {"x": x}, {"y": x.astype(np.float32)})


@functools.cache
def _schemas() -> Mapping[tuple[str, str], dict[int, onnx.defs.OpSchema]]:
    found: dict[tuple[str, str], dict[int, onnx.defs.OpSchema]] = defaultdict(dict)
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain, schema.name][schema.since_version] = schema
    return found


def _random(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _packed(bits: int) -> dict[str, NDArray[Any]]:
    """Inputs of MatMulNBits with 16 columns of two blocks of 32."""
    integers = np.random.default_rng(0).integers(0, 256, (16, 2, 32 * bits // 8), np.uint8)
    return {"w": integers, "s": np.full((16, 2), 0.1, np.float32)}


_Node = tuple[str, dict[str, NDArray[Any]], dict[str, NDArray[Any]], int, dict[str, Any]]
_HEADS = {"q": _random(1, 2, 32), "k": _random(1, 2, 32), "v": _random(1, 2, 32)}
_CACHE = {"pk": _random(1, 2, 3, 16), "pv": _random(1, 2, 3, 16)}
_LENGTHS = {"seqlens": np.asarray([4], np.int32), "total": np.asarray(5, np.int32)}
_NORM = {"gamma": _random(8), "beta": _random(8)}
_CONTRIB: tuple[_Node, ...] = (
    *(
        (
            "MatMulNBits",
            {"x": _random(3, 64)},
            _packed(bits),
            1,
            {"K": 64, "N": 16, "bits": bits, "block_size": 32},
        )
        for bits in (2, 4, 8)
    ),
    (
        "GatherBlockQuantized",
        {"i": np.asarray([[0, 3]])},
        {"w": np.ones((8, 16), np.uint8), "s": _random(8, 1)},
        1,
        {"gather_axis": 0, "quantize_axis": 1, "block_size": 32, "bits": 4},
    ),
    (
        "GroupQueryAttention",
        _HEADS | _CACHE | _LENGTHS,
        {},
        3,
        {"num_heads": 2, "kv_num_heads": 2},
    ),
    ("MultiHeadAttention", _HEADS, {}, 1, {"num_heads": 2}),
    ("SkipLayerNormalization", {"x": _random(1, 3, 8), "skip": _random(1, 3, 8)}, _NORM, 1, {}),
    (
        "SkipSimplifiedLayerNormalization",
        {"x": _random(1, 3, 8), "skip": _random(1, 3, 8)},
        {"gamma": _random(8)},
        1,
        {},
    ),
    ("SimplifiedLayerNormalization", {"x": _random(1, 3, 8)}, {"gamma": _random(8)}, 1, {"axis": -1}),
    ("LayerNormalization", {"x": _random(1, 3, 8)}, _NORM, 1, {"axis": -1}),
    ("Gelu", {"x": _random(3, 8)}, {}, 1, {}),
    ("BiasGelu", {"x": _random(3, 8)}, {"b": _random(8)}, 1, {}),
    ("FastGelu", {"x": _random(3, 8)}, {}, 1, {}),
    ("QuickGelu", {"x": _random(3, 8)}, {}, 1, {"alpha": 1.0}),
    ("FusedMatMul", {"x": _random(3, 8), "y": _random(3, 8)}, {}, 1, {"transB": 1}),
    (
        "RotaryEmbedding",
        {"x": _random(1, 2, 3, 8), "positions": np.arange(3)[None]},
        {"cos": _random(4, 4), "sin": _random(4, 4)},
        1,
        {},
    ),
    (
        "DynamicQuantizeMatMul",
        {"x": _random(3, 8)},
        {"w": np.ones((8, 4), np.int8), "s": np.full(4, 0.1, np.float32)},
        1,
        {},
    ),
)
"""Operator, inputs, constants, how many outputs, attributes."""


def _contrib(index: int) -> OneNode:
    operator, feeds, constants, count, attributes = _CONTRIB[index]
    outputs = [f"y{i}" for i in range(count)]
    domain = "" if operator.removeprefix("Simplified") == "LayerNormalization" else "com.microsoft"
    inputs = [*feeds, *constants]
    if operator == "GatherBlockQuantized":
        inputs = ["w", "i", "s"]
    node = helper.make_node(operator, inputs, outputs, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    expected = _by_onnxruntime(model, feeds)
    version = 17 if operator == "LayerNormalization" else 1
    return OneNode(domain, operator, version, model, feeds, expected)


def _by_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feeds)), strict=True))
