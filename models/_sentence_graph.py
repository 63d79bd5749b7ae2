"""A text's vector as nodes of a graph, and the same in numpy, to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.pipeline import Nodes

from ._sentence_modules import Dense, Pooling, SentenceModule

__all__ = ["OUTPUT", "add_sentence_embedding", "sentence_embedding"]

OUTPUT = "sentence_embedding"
_LEAST_TOKENS = 1e-9  # what sentence-transformers divides by where a text has none
_LEAST_LENGTH = 1e-12  # what torch.nn.functional.normalize divides by where a vector is nothing


def add_sentence_embedding(graph: ir.Graph, modules: Sequence[SentenceModule]) -> None:
    """Append `modules` to `graph` and give it the output `sentence_embedding` float32[batch, size].

    Its first output is the tokens' vectors float32[batch, sequence, width], and it has an `attention_mask`.
    """
    new = Nodes(OUTPUT)
    tokens = graph.outputs[0]
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    x = tokens
    for number, module in enumerate(modules):
        named = Nodes(f"{OUTPUT}/{number}")
        if isinstance(module, Pooling):
            x = _pooled(x, mask, module, named)
        elif isinstance(module, Dense):
            x = _dense(x, module, named)
        else:
            x = _normalized(x, named)
        new.nodes += named.nodes
        new.initializers += named.initializers
    x.name = OUTPUT
    x.shape = ir.Shape([tokens.shape[0] if tokens.shape is not None else None, _size(modules, tokens)])
    for value in new.initializers:
        graph.register_initializer(value)
    graph.extend(new.nodes)
    graph.outputs.append(x)


def _size(modules: Sequence[SentenceModule], tokens: ir.Value) -> int:
    assert tokens.shape is not None
    size = int(tokens.shape[-1])  # type: ignore[arg-type]
    for module in modules:
        if isinstance(module, Pooling):
            size *= len(module.modes)
        elif isinstance(module, Dense):
            size = len(module.weight)
    return size


def _pooled(x: ir.Value, mask: ir.Value, module: Pooling, new: Nodes) -> ir.Value:
    real = new.op("Cast", [mask], "real", dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
    places = new.op("Unsqueeze", [real, new.constant([-1], np.int64, "last")], "places", dtype=real.dtype)
    parts = [_pool(x, real, places, mode, new) for mode in module.modes]
    return parts[0] if len(parts) == 1 else new.op("Concat", parts, "both", dtype=x.dtype, axis=-1)


def _pool(x: ir.Value, real: ir.Value, places: ir.Value, mode: str, new: Nodes) -> ir.Value:
    def op(kind: str, inputs: list[ir.Value], label: str, **attributes: Any) -> ir.Value:
        return new.op(kind, inputs, f"{mode}/{label}", dtype=ir.DataType.FLOAT, **attributes)

    axis = new.constant([1], np.int64, f"{mode}/axis")
    if mode in ("cls", "lasttoken"):
        index = new.op(
            "ArgMax",
            [real],
            f"{mode}/index",
            dtype=ir.DataType.INT64,
            axis=1,
            keepdims=1,
            select_last_index=int(mode == "lasttoken"),
        )
        source = op("Mul", [x, places], "masked") if mode == "lasttoken" else x
        return op("GatherND", [source, index], "vector", batch_dims=1)
    if mode == "max":
        none = new.constant(-np.inf, np.float32, f"{mode}/none")
        kept = new.op("Cast", [places], f"{mode}/kept", dtype=ir.DataType.BOOL, to=ir.DataType.BOOL)
        return op("ReduceMax", [op("Where", [kept, x, none], "masked"), axis], "vector", keepdims=0)
    weights = _positions(real, places, new) if mode == "weightedmean" else places
    total = op("ReduceSum", [op("Mul", [x, weights], "masked"), axis], "sum", keepdims=0)
    least = new.constant(_LEAST_TOKENS, np.float32, f"{mode}/least")
    count = op("Max", [op("ReduceSum", [weights, axis], "weights", keepdims=0), least], "count")
    if mode == "mean_sqrt_len_tokens":
        count = op("Sqrt", [count], "root")
    return op("Div", [total, count], "vector")


def _positions(real: ir.Value, places: ir.Value, new: Nodes) -> ir.Value:
    """Of each token its place, 1 for a text's first, 0 for padding; float32[batch, sequence, 1]."""
    so_far = new.op(
        "CumSum", [real, new.constant(1, np.int64, "positions/axis")], "positions/so-far", dtype=real.dtype
    )
    last = new.constant([-1], np.int64, "positions/last")
    wide = new.op("Unsqueeze", [so_far, last], "positions/wide", dtype=real.dtype)
    return new.op("Mul", [wide, places], "positions", dtype=real.dtype)


def _dense(x: ir.Value, module: Dense, new: Nodes) -> ir.Value:
    y = _product(x, module.weight, "weight", new)
    if module.bias is not None:
        y = new.op("Add", [y, new.constant(module.bias, np.float32, "bias")], "biased", dtype=x.dtype)
    if module.activation != "Identity":
        y = new.op(_OPERATORS[module.activation], [y], "active", dtype=x.dtype)
    if module.residual:
        other = x if module.projection is None else _product(x, module.projection, "residual", new)
        y = new.op("Add", [y, other], "both", dtype=x.dtype)
    return y


def _product(x: ir.Value, rows: np.ndarray, label: str, new: Nodes) -> ir.Value:
    weight = new.constant(np.ascontiguousarray(rows.T), np.float32, label)
    return new.op("MatMul", [x, weight], f"{label}/product", dtype=x.dtype)


def _normalized(x: ir.Value, new: Nodes) -> ir.Value:
    axis = new.constant([-1], np.int64, "last")
    length = new.op("ReduceL2", [x, axis], "length", dtype=x.dtype, keepdims=1)
    least = new.constant(_LEAST_LENGTH, np.float32, "least")
    return new.op("Div", [x, new.op("Max", [length, least], "divisor", dtype=x.dtype)], "unit", dtype=x.dtype)


def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    y: np.ndarray = x * (1 + erf(x / np.sqrt(2))) / 2
    return y


def _sigmoid(x: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    y: np.ndarray = expit(x)
    return y


_OPERATORS = {"Tanh": "Tanh", "ReLU": "Relu", "GELU": "Gelu", "Sigmoid": "Sigmoid"}
_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "GELU": _gelu,
    "Sigmoid": _sigmoid,
}


def sentence_embedding(tokens: np.ndarray, mask: np.ndarray, modules: Sequence[SentenceModule]) -> np.ndarray:
    """float32[batch, size] of tokens' vectors float32[batch, sequence, width] and their mask."""
    x: np.ndarray = tokens.astype(np.float64)
    for module in modules:
        if isinstance(module, Pooling):
            x = np.concatenate([_POOLS[mode](x, mask != 0) for mode in module.modes], axis=-1)
        elif isinstance(module, Dense):
            y = x @ module.weight.T + (0 if module.bias is None else module.bias)
            y = _FUNCTIONS[module.activation](y)
            if module.residual:
                y = y + (x if module.projection is None else x @ module.projection.T)
            x = y
        else:
            x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), _LEAST_LENGTH)
    return x.astype(np.float32)


def _weighted(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (x * weights[..., None]).sum(1) / np.maximum(weights.sum(1), _LEAST_TOKENS)[:, None]
    return mean


_POOLS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cls": lambda x, real: x[np.arange(len(x)), real.argmax(1)],
    "lasttoken": lambda x, real: x[np.arange(len(x)), real.shape[1] - 1 - real[:, ::-1].argmax(1)],
    "max": lambda x, real: np.where(real[..., None], x, -np.inf).max(1),
    "mean": _weighted,
    "mean_sqrt_len_tokens": lambda x, real: _weighted(x, real) * np.sqrt(real.sum(1))[:, None],
    "weightedmean": lambda x, real: _weighted(x, real.cumsum(1) * real),
}
