"""How old feeds become new ones, and new results old ones, where a pass changes the interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.interface import Adapter, Arrays

from ._rotations import rotation
from ._scale_search import factors_of

__all__ = ["LastTokenLogits", "QuantizedCache", "ScaledValues", "TurnedValues"]


@dataclass(frozen=True)
class LastTokenLogits(Adapter):
    """`logits` holds only the last `logits_to_keep` positions (int64[1], 1 unless fed).

    The old result, every position, is had by asking for as many as `sequence_input` has on axis 1.
    """

    kind: ClassVar[str] = "last-token-logits"
    keep_input: str
    sequence_input: str
    output: str

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        return {self.keep_input: np.asarray([old[self.sequence_input].shape[1]], np.int64), **old}


@dataclass(frozen=True)
class QuantizedCache(Adapter):
    """Float32 caches [batch, heads, length, size] are integers now: the inputs `past`, the outputs `present`.

    Those are round(x / scale), kept within what `bits` (8 or 4) hold; `scale` is float32
    [caches, heads, size]. 8 bits are int8; 4 bits, plus 8, halves of uint8 [batch, heads, length, size / 2],
    the lower one first.
    """

    kind: ClassVar[str] = "quantized-cache"
    past: tuple[str, ...]
    present: tuple[str, ...]
    heads: int
    scale: tuple[float, ...]
    bits: int = 8

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        new = dict(old)
        most = 2 ** (self.bits - 1) - 1
        for name, scale in zip(self.past, self._scales(), strict=True):
            levels = np.clip(np.rint(old[name] / scale), -most - 1, most).astype(np.int8)
            new[name] = levels if self.bits == 8 else _packed_halves(levels)
        return new

    def results(self, new: Arrays) -> dict[str, np.ndarray]:
        found = dict(new)
        for name, scale in zip(self.present, self._scales(), strict=True):
            levels = new[name] if self.bits == 8 else _unpacked_halves(new[name])
            found[name] = levels.astype(np.float32) * scale
        return found

    def _scales(self) -> np.ndarray:
        """They, as float32 [caches, heads, 1, size]."""
        return np.asarray(self.scale, np.float32).reshape(len(self.past), self.heads, 1, -1)


@dataclass(frozen=True)
class TurnedValues(Adapter):
    """A cache of values v [batch, heads, length, size] holds v R: the input `past`, the output `present`.

    R [size, size] is the rotation of that size and `seed`.
    """

    kind: ClassVar[str] = "turned-values"
    past: str
    present: str
    size: int
    seed: int

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        return {**old, self.past: old[self.past] @ self._matrix()}

    def results(self, new: Arrays) -> dict[str, np.ndarray]:
        return {**new, self.present: new[self.present] @ self._matrix().T}

    def _matrix(self) -> np.ndarray:
        return rotation(self.size, self.seed).matrix


@dataclass(frozen=True)
class ScaledValues(Adapter):
    """A cache of values v [batch, heads, length, size] holds v / s: the input `past`, the output `present`.

    `steps` are the logarithms of s [heads, size] to the base of the eighth root of two.
    """

    kind: ClassVar[str] = "scaled-values"
    past: str
    present: str
    heads: int
    steps: tuple[int, ...]

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        return {**old, self.past: old[self.past] / self._factors()}

    def results(self, new: Arrays) -> dict[str, np.ndarray]:
        return {**new, self.present: new[self.present] * self._factors()}

    def _factors(self) -> np.ndarray:
        """float32 [heads, 1, size]."""
        return factors_of(self.steps).reshape(self.heads, 1, -1)


def _packed_halves(levels: np.ndarray) -> np.ndarray:
    """Integers [.., n] from -8 to 7 as uint8 [.., n / 2]."""
    nibbles = (levels + 8).astype(np.uint8)
    packed: np.ndarray = nibbles[..., ::2] | nibbles[..., 1::2] << 4
    return packed


def _unpacked_halves(packed: np.ndarray) -> np.ndarray:
    """int8 [.., n] of uint8 [.., n / 2]."""
    nibbles = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:-1], -1)
    return nibbles.astype(np.int8) - np.int8(8)
