"""What a loop over a sequence computes, found by running its body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import onnx_ir as ir

from graphopt.ir import evaluate, extract

__all__ = ["Recurrence", "recurrence_of"]

Array = np.ndarray[Any, Any]
_BATCH = 2  # the least that tells an axis of rows from one that broadcasts
_RELATIVE = 1e-4  # a judgement: above what one step in float32 rounds, below what another rule gives
# The rules of onnxruntime's LinearAttention, by what they are given beside query, key and value.
_RULES = {(): "linear", ("decay",): "gated", ("beta",): "delta", ("decay", "beta"): "gated_delta"}


@dataclass(frozen=True)
class Recurrence:
    """Linear attention: S = exp(decay) S + key ⊗ value, result = S^T query, for one token after the other.

    The delta rules write beta (value - S^T key) for the value, S decayed. `roles` says which of the loop's
    inputs is what; sizes are those of the state [batch, heads, key_size, value_size].
    """

    rule: str
    roles: Mapping[str, int]
    heads: int
    key_size: int
    value_size: int


def recurrence_of(loop: ir.Node, opset_imports: Mapping[str, int]) -> Recurrence | str:
    """What the Scan `loop` computes from one state and one token's inputs; else why that is not known.

    Its body is run once on random numbers and compared with every rule, the inputs in every role that their
    shapes allow.
    """
    body = loop.attributes["body"].as_graph()
    if len(body.outputs) != 2 or len(body.inputs) - loop.attributes["num_scan_inputs"].as_int() != 1:
        return "the loop does not carry one state and give one result"
    shapes = [_sizes(value) for value in body.inputs]
    if any(shape is None for shape in shapes) or len(shapes[0] or ()) != 4:
        return (
            "the loop's state is not [batch, heads, key size, value size], or its inputs' sizes are unknown"
        )
    if any(value.dtype != ir.DataType.FLOAT for value in body.inputs):
        return "the loop is not in float32"
    piece = extract(body, list(body.outputs), opset_imports)
    names = {value.name for value in body.inputs}
    if any(value.name not in names for value in piece.graph.inputs):
        return "the loop reads a value from outside"
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((_BATCH, *(shape or ())[1:])).astype(np.float32) for shape in shapes]
    feeds = {value.name or "": array for value, array in zip(body.inputs, given, strict=True)}
    try:
        found = evaluate(piece, feeds)
    except Exception as error:
        return f"the loop's body cannot be run by itself: {error}"
    state, *inputs = (array.astype(np.float64) for array in given)
    for rule, roles in _candidates(inputs, state.shape):
        wanted = _step(state, {role: inputs[index] for role, index in roles.items()})
        if all(np.allclose(a, b, rtol=_RELATIVE, atol=_RELATIVE) for a, b in zip(found, wanted, strict=True)):
            return Recurrence(rule, roles, *state.shape[1:])
    return "what the loop computes is no linear attention"


def _sizes(value: ir.Value) -> tuple[int, ...] | None:
    """The shape, 0 for the first axis; None where another than that is unknown."""
    if value.shape is None or not all(isinstance(dim, int) for dim in value.shape[1:]):
        return None
    return (0, *(int(dim) for dim in value.shape[1:]))  # type: ignore[arg-type]


def _candidates(inputs: list[Array], state: tuple[int, ...]) -> Iterator[tuple[str, dict[str, int]]]:
    batch, heads, key, value = state
    fitting: dict[str, set[tuple[int, ...]]] = {
        "query": {(batch, heads, key)},
        "key": {(batch, heads, key)},
        "value": {(batch, heads, value)},
        "decay": {(batch, heads), (batch, heads, key)},
        "beta": {(batch, heads)},
    }
    for extra, rule in _RULES.items():
        names = ("query", "key", "value", *extra)
        if len(names) != len(inputs):
            continue
        for order in permutations(range(len(inputs))):
            roles = dict(zip(names, order, strict=True))
            if all(inputs[index].shape in fitting[name] for name, index in roles.items()):
                yield rule, roles


def _step(state: Array, given: Mapping[str, Array]) -> tuple[Array, Array]:
    """The state after a token, and its result."""
    key, value = given["key"], given["value"]
    if "decay" in given:
        decay = np.exp(given["decay"])
        state = state * (decay[..., None] if decay.ndim == key.ndim else decay[..., None, None])
    if "beta" in given:
        value = (value - np.einsum("bhkv,bhk->bhv", state, key)) * given["beta"][..., None]
    state = state + key[..., None] * value[..., None, :]
    return state, np.einsum("bhkv,bhk->bhv", state, given["query"])
