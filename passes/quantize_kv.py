"""quantize-kv: the cache of keys and values in integers of 8 or 4 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.errors import BadInput
from graphopt.ir import MICROSOFT, consumers, save_model, static_dim
from graphopt.pipeline import Context, Contract, Edits, Level, NearMiss, Pass
from graphopt.runtime import Decoder, open_session
from graphopt.targets import Target

from ._cache_scales import Reach
from ._integer_cache import SCALES, in_integers, rotated_pairs
from ._own_text import continued, opened

_SQNR = {8: 30.0, 4: 10.0}
"""By bits, dB that are asked for."""
_RANDOM = 4
"""Tokens that a drawn text begins with, so that texts differ. A judgement."""


class QuantizeKv(Pass):
    """The cache of GroupQueryAttention becomes integers, with a scale for each channel of each head.

    Before: GroupQueryAttention(.., past_key, past_value), the cache float32
    After:  GroupQueryAttention(.., past_key, past_value, .., k_scale, v_scale), the cache int8, or uint8 with
            two integers in each
    A quarter or an eighth of the bytes, and attention over a long past has less to read. How far each channel
    reaches before it is clipped is chosen on the calibration text, by squared error: with 8 bits that is as
    far as it went, unless that is far beyond the rest. Without such text the model draws texts after a few
    random tokens. Where to clip are decisions, replayed from a lock.
    Refuses: a cache that is no input and output of the graph, is used elsewhere, is not float32, or is
    quantized already; with 4 bits heads of an odd size; a model that cannot be run on tokens alone.
    """

    name: ClassVar[str] = "quantize-kv"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("sqnr", _SQNR[8])
    main_graph_only: ClassVar[bool] = True

    @dataclass(frozen=True)
    class Options:
        """bits: of each integer; texts and tokens: how many texts, each of how many tokens, are drawn where
        there is none to read; margin: how much farther than in those a channel reaches, since they are few.
        """

        bits: Literal[4, 8] = 8
        texts: int = 4
        tokens: int = 64
        margin: float = 1.1

    def effective_contract(self) -> Contract:
        return Contract.lossy("sqnr", _SQNR[self.options.bits])

    @property
    def cache_bits(self) -> int:
        bits: int = self.options.bits
        return bits

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        found = []
        for node in graph:
            if (node.domain, node.op_type) == ("", "Attention") and any(node.inputs[4:6]):
                yield NearMiss(
                    node.name or node.op_type, "only GroupQueryAttention takes a cache of integers"
                )
            if node.domain != MICROSOFT or node.op_type != "GroupQueryAttention":
                continue
            reason = _unfit(node, self.options.bits)
            if reason is None:
                found.append(node)
            else:
                yield NearMiss(node.name or node.op_type, reason)
        if not found:
            return
        stream = context.stream()
        if isinstance(stream, str):
            try:
                limits = context.decide(self.name, lambda: self._drawn(found, context))
            except BadInput as error:
                yield NearMiss(self.name, f"the model cannot be run on tokens: {error}")
                return
        else:
            limits = context.decide(self.name, lambda: _read(found, stream, self.options.bits))
        for node in found:
            yield in_integers(node, [limits[name] for name in _pasts(node)], self.options.bits)

    def _drawn(self, nodes: list[ir.Node], context: Context) -> dict[str, list[float]]:
        """By cache input, where its channels are to be clipped, by texts that the model draws."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            save_model(context.model, path)
            decoder = _decoder(context.target, path, self.options)
            count, rng = self.options.tokens, np.random.default_rng(0)
            prompt = opened(decoder, min(_RANDOM, count), context.config.get("bos_token_id"), rng)
            continued(decoder, prompt, count + 1, rng)
            cache = decoder.cache()
        found: dict[str, list[float]] = {}
        for node in nodes:
            caches = [cache[name] for name in _pasts(node)]
            found |= _limits(node, _reaches(node, [caches]), self.options.bits, self.options.margin)
        return found


def _read(nodes: list[ir.Node], stream: Stream, bits: int) -> dict[str, list[float]]:
    """By cache input, where its channels are to be clipped, by the calibration text."""
    found: dict[str, list[float]] = {}
    for node in nodes:
        found |= _limits(node, _reaches(node, stream.values(node.outputs[1:3])), bits)
    return found


def _pasts(node: ir.Node) -> list[str]:
    return [past.name for past in node.inputs[3:5] if past is not None and past.name is not None]


def _reaches(node: ir.Node, texts: Iterable[list[NDArray[np.float32]]]) -> list[Reach]:
    """Of keys at any position, and of values, in all of `texts`."""
    heads, size = (static_dim(node.inputs[3], axis) for axis in (1, 3))
    assert heads is not None
    assert size is not None
    found = [Reach(heads * size) for _ in range(2)]
    for keys, values in texts:
        for reach, magnitudes in zip(found, (_at_any_position(keys, node), np.abs(values)), strict=True):
            reach.add(magnitudes.transpose(0, 2, 1, 3).reshape(-1, heads * size))
    return found


def _limits(node: ir.Node, reaches: list[Reach], bits: int, margin: float = 1.0) -> dict[str, list[float]]:
    return {
        name: [float(f"{margin * x:.3g}") for x in reach.limits(bits)]
        for name, reach in zip(_pasts(node), reaches, strict=True)
    }


def _decoder(target: Target | None, path: Path, options: QuantizeKv.Options) -> Decoder:
    """What runs the graph at `path`: the target it is made for, where there is one."""
    if target is None:
        return Decoder(open_session(path), batch=options.texts)
    return target.decoder(path.parent, target.session(path), length=options.tokens, batch=options.texts)


def _at_any_position(keys: NDArray[np.float32], node: ir.Node) -> NDArray[np.float32]:
    """The magnitudes of `keys`; of two channels that `node` rotates into each other, that of both together.

    A text that is longer than those looked at turns slow pairs to angles that were not seen.
    """
    found = np.abs(keys)
    one, other = rotated_pairs(node)
    found[..., one] = found[..., other] = np.hypot(found[..., one], found[..., other])
    return found


def _unfit(node: ir.Node, bits: int) -> str | None:
    """Why the cache of a GroupQueryAttention cannot be made integers, if it cannot."""
    if any(value is not None for value in node.inputs[SCALES]):
        return "its cache is quantized already"
    past, present = node.inputs[3:5], node.outputs[1:3]
    if len(present) != 2 or any(v is None or not v.is_graph_input() or len(v.uses()) != 1 for v in past):
        return "its past is not a graph input, or has another use"
    if any(not v.is_graph_output() or consumers(v) for v in present):
        return "its present is not a graph output, or has another use"
    if any(v is None or v.dtype != ir.DataType.FLOAT for v in past):
        return "its cache is not float32"
    if any(static_dim(v, 1) is None or static_dim(v, 3) is None for v in past):
        return "the number or the size of its heads is not known"
    if bits == 4 and (static_dim(past[0], 3) or 0) % 2:
        return "an odd size of heads is not packed in halves of bytes"
    return None
