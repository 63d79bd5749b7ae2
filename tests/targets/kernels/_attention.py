"""One GroupQueryAttention, inputs for it, and what it comes to by the operator's definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
PLACES = 512


@dataclass(frozen=True)
class Case:
    """Sizes of one call; `past` and `tokens` are of each text, which are padded to the longest."""

    past: tuple[int, ...] = (5,)
    tokens: tuple[int, ...] = (3,)
    heads: int = 4
    kv_heads: int = 2
    size: int = 32
    packed: bool = True
    half: int = 16
    window: int | None = None
    bias: tuple[int, int] | None = None
    sink: bool = False
    bits: int = 32
    room: int = 0
    scale: float | None = None
    cap: float = 0.0
    interleaved: bool = False
    seed: int = 0

    @property
    def width(self) -> int:
        return max(self.tokens)

    @property
    def total(self) -> int:
        return max(p + self.width for p in self.past)

    @property
    def most(self) -> int:
        """Levels below zero that an integer of the cache has."""
        return int(2 ** (self.bits - 1))

    def stored(self, x: Array) -> Array:
        """Levels as a cache holds them."""
        levels = np.clip(np.rint(x), -self.most, self.most - 1).astype(np.int8)
        if self.bits == 8:
            return levels
        halves = (levels + 8).astype(np.uint8)
        return np.asarray(halves[..., ::2] + 16 * halves[..., 1::2], np.uint8)

    def levels(self, cache: Array) -> Array:
        """What a cache holds; of one in float, that itself."""
        if self.bits != 4:
            return cache
        halves = np.stack([cache % 16, cache // 16], -1).astype(np.int8) - 8
        return halves.reshape(*cache.shape[:-1], self.size)


def attention(case: Case, **changes: Any) -> onnx.ModelProto:
    """The operator alone, its cache an input; `changes` are attributes."""
    rng = np.random.default_rng(case.seed)
    constants = {}
    kind = {32: TensorProto.FLOAT, 8: TensorProto.INT8, 4: TensorProto.UINT8}[case.bits]
    says: dict[str, Any] = {"num_heads": case.heads, "kv_num_heads": case.kv_heads}
    if case.half:
        angles = rng.uniform(0, 6, (PLACES, case.half))
        constants |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
        says |= {"do_rotary": 1, "rotary_interleaved": int(case.interleaved)}
    if case.bits < 32:
        for name in ("k_scale", "v_scale"):
            scales = rng.uniform(0.01, 0.04, (1, case.kv_heads, 1, case.size)) * 128 / case.most
            constants[name] = scales.astype(np.float32)
        says |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
        says["kv_cache_bit_width"] = case.bits
    if case.window is not None:
        says["local_window_size"] = case.window
    if case.cap:
        says["softcap"] = case.cap
    if case.scale is not None:
        says["scale"] = case.scale
    names = [
        "query",
        "",
        "",
        "past_key",
        "past_value",
        "last",
        "total",
        *(["cos", "sin"] if case.half else ["", ""]),
    ]
    if not case.packed:
        names[1:3] = ["key", "value"]
    names += ["places" if case.half else "", "bias" if case.bias else "", "sink" if case.sink else ""]
    names += [*(["k_scale", "v_scale"] if case.bits < 32 else ["", ""]), "", "", "valid"]
    types = dict.fromkeys(("query", "key", "value", "bias", "sink"), TensorProto.FLOAT)
    types |= {"past_key": kind, "past_value": kind, "places": TensorProto.INT64}
    types |= dict.fromkeys(("last", "total", "valid"), TensorProto.INT32)
    cache = ["batch", case.kv_heads, "past", case.size // 2 if case.bits == 4 else case.size]
    shapes = {"query": ["batch", "tokens", "width"], "past_key": cache, "past_value": cache, "total": []}
    node = helper.make_node(
        "GroupQueryAttention",
        names,
        ["y", "present_key", "present_value"],
        domain="com.microsoft",
        **says | changes,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, types[n], shapes.get(n)) for n in names if n in types],
        [
            helper.make_tensor_value_info(name, kind if "present" in name else TensorProto.FLOAT, None)
            for name in node.output
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def inputs(case: Case) -> dict[str, Array]:
    """Random ones; what is beyond a text in the cache is no number, so that reading it shows."""
    rng = np.random.default_rng(case.seed + 1)
    batch, width = len(case.past), case.width
    kv = case.kv_heads * case.size
    parts = {
        name: rng.standard_normal((batch, width, n)).astype(np.float32)
        for name, n in (("query", case.heads * case.size), ("key", kv), ("value", kv))
    }
    found: dict[str, Array] = dict(parts)
    if case.packed:
        found = {"query": np.concatenate(list(parts.values()), -1)}
    room = max(case.total if case.room else max(case.past), max(case.past)) + case.room
    for name in ("past_key", "past_value"):
        shape = (batch, case.kv_heads, room, case.size)
        cache = rng.standard_normal(shape).astype(np.float32)
        found[name] = cache if case.bits == 32 else case.stored(cache * 50 * case.most / 128)
    past, tokens = np.asarray(case.past), np.asarray(case.tokens)
    found["last"] = (past + tokens - 1).astype(np.int32)
    found["total"] = np.asarray(case.total, np.int32)
    found["valid"] = tokens.astype(np.int32)
    if case.half:
        found["places"] = (past[:, None] + np.arange(width)).astype(np.int64)
    if case.bias:
        shape = (batch if case.bias[0] else 1, case.heads if case.bias[1] else 1, width, case.total)
        found["bias"] = rng.standard_normal(shape).astype(np.float32)
    if case.sink:
        found["sink"] = rng.standard_normal(case.heads).astype(np.float32)
    return found


def expected(
    case: Case, model: onnx.ModelProto, feeds: dict[str, Array], caches: tuple[Array, Array] | None = None
) -> list[tuple[Array, Array, Array]]:
    """Of each text: y [tokens, heads * size], and its cache, keys and values [kv_heads, keys, size].

    With `caches`, present keys and values of all texts, y is what comes of those.
    """
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = []
    for text, (past, tokens) in enumerate(zip(case.past, case.tokens, strict=True)):
        given = feeds["query"][text, :tokens].astype(np.float64)
        wide, narrow = case.heads * case.size, case.kv_heads * case.size
        counts = (case.heads, case.kv_heads, case.kv_heads)
        if case.packed:
            q, k, v = np.split(given, [wide, wide + narrow], -1)
        else:
            q, k, v = given, *(feeds[name][text, :tokens].astype(np.float64) for name in ("key", "value"))
        q, k, v = (
            x.reshape(tokens, n, case.size).transpose(1, 0, 2) for x, n in zip((q, k, v), counts, strict=True)
        )
        if case.half:
            places = feeds["places"][text, :tokens]
            cos, sin = (constants[name][places].astype(np.float64) for name in ("cos", "sin"))
            q, k = (_turned(x, cos, sin, case) for x in (q, k))
        own = []
        for name, new in (("key", k), ("value", v)):
            old = feeds[f"past_{name}"][text, :, :past]
            if case.bits < 32:
                scale = constants[f"{name[0]}_scale"][0].astype(np.float64)
                old, new = case.levels(old), np.clip(np.rint(new / scale), -case.most, case.most - 1)
            own.append(np.concatenate([old, new], 1))
        keys, values = own if caches is None else (case.levels(x[text, :, : past + tokens]) for x in caches)
        if case.bits < 32:
            keys, values = (x * constants[f"{n}_scale"][0] for x, n in ((keys, "k"), (values, "v")))
        keys, values = (np.repeat(x, case.heads // case.kv_heads, 0) for x in (keys, values))
        scale = case.scale or case.size**-0.5
        scores = q @ keys.transpose(0, 2, 1) * scale
        if case.cap:
            scores = case.cap * np.tanh(scores / case.cap)
        if case.bias:
            bias = np.broadcast_to(feeds["bias"], (len(case.past), case.heads, *feeds["bias"].shape[2:]))
            scores = scores + bias[text, :, :tokens, : past + tokens]
        at, key = past + np.arange(tokens)[:, None], np.arange(past + tokens)
        seen = key <= at if case.window is None else (key <= at) & (key > at - case.window)
        scores = np.where(seen, scores, -np.inf)
        if case.sink:
            sink = np.broadcast_to(feeds["sink"][:, None, None], (case.heads, tokens, 1))
            scores = np.concatenate([scores, sink], -1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights = (weights / weights.sum(-1, keepdims=True))[..., : past + tokens]
        y = (weights @ values).transpose(1, 0, 2).reshape(tokens, wide)
        found.append((y, own[0], own[1]))
    return found


def _turned(x: Array, cos: Array, sin: Array, case: Case) -> Array:
    turned = x.copy()
    end = 2 * case.half
    first, second = (
        (slice(0, end, 2), slice(1, end, 2))
        if case.interleaved
        else (slice(0, case.half), slice(case.half, end))
    )
    turned[..., first] = x[..., first] * cos - x[..., second] * sin
    turned[..., second] = x[..., second] * cos + x[..., first] * sin
    return turned
