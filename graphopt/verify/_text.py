"""Text that windows are fed with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["made_up_text", "words_of"]

_NUMERALS = ("0", "-1.5", "7", "1e3")
_WORDS = ("", "a", "Ab c", "a,b", "x@y.org", "äß")
_MOST = 64
"""Words of a window that inputs are drawn from, so that each is met in a call of usual size."""


def words_of(nodes: Iterable[ir.Node], weights: Iterable[ir.Value]) -> tuple[str, ...]:
    """The text in attributes and weights, the first of it: what inputs may be compared with."""
    tensors = [value.const_value for value in weights]
    found: dict[str, None] = {}
    for node in nodes:
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.STRINGS:
                found |= dict.fromkeys(attribute.as_strings())
            elif attribute.type == ir.AttributeType.TENSOR:
                tensors.append(attribute.as_tensor())
    for tensor in tensors:
        if tensor is not None and tensor.dtype == ir.DataType.STRING:
            found |= dict.fromkeys(_decoded(tensor))
    return tuple(found)[:_MOST]


def _decoded(tensor: ir.TensorProtocol) -> Iterator[str]:
    for text in tensor.numpy().reshape(-1).tolist():
        yield text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def made_up_text(
    shape: tuple[int, ...], words: tuple[str, ...], rng: np.random.Generator, *, numerals: bool
) -> np.ndarray[Any, Any]:
    """Words at random, those that are given among them, or `numerals` alone: not every text is a number."""
    known = _NUMERALS if numerals else (*_WORDS, *_NUMERALS, *words)
    return rng.choice(np.asarray(known, object), shape)
