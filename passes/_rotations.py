"""Orthogonal matrices that even out channels: randomized Hadamard matrices, as far as one is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from graphopt.ir import Expr, InMemory, Rotated

__all__ = ["Rotation", "rotation"]

_Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rotation:
    """R, as `graphopt.ir.Rotated` describes it: `signs` float32 [n], `core` float32 [m, m]."""

    signs: NDArray[np.float32]
    core: NDArray[np.float32]

    def of(self, source: Expr, axis: int) -> Expr:
        """Each run of n along `axis` of `source`, a row vector, times R."""
        return Rotated(source, InMemory(self.signs), InMemory(self.core), axis)

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """R itself, [n, n]."""
        return self.of(InMemory(np.eye(len(self.signs), dtype=np.float32)), 1).read()


def rotation(size: int, seed: int) -> Rotation:
    """A Hadamard matrix of `size` with random signs, over the root of `size`, where one is found.

    That is Sylvester's, of a power of two, times one that Paley constructed from the squares in a field of p
    elements, of order p + 1 or 2 (p + 1). Else it is Sylvester's times a random orthogonal matrix of the odd
    rest.
    """
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(size) < 0.5, -1, 1).astype(np.float32)
    odd = size
    while odd % 2 == 0:
        odd //= 2
    if odd == 1:
        return Rotation(signs, np.ones((1, 1), np.float32))
    for order in (odd << shift for shift in range(2, (size // odd).bit_length())):
        found = _paley(order)
        if found is not None:
            return Rotation(signs, (found / np.sqrt(order)).astype(np.float32))
    turned, triangle = np.linalg.qr(rng.standard_normal((odd, odd)))
    return Rotation(signs, (turned * np.sign(np.diag(triangle))).astype(np.float32))


def _paley(order: int) -> _Integers | None:
    """Paley's Hadamard matrix of this order (1933, doi 10.1002/sapm1933121311), if there is one."""
    if _is_prime(order - 1) and (order - 1) % 4 == 3:
        return np.eye(order, dtype=np.int64) + _bordered(order - 1, -1)
    half = order // 2
    if _is_prime(half - 1) and (half - 1) % 4 == 1:
        apart = np.kron(_bordered(half - 1, 1), np.array([[1, 1], [1, -1]]))
        return apart + np.kron(np.eye(half, dtype=np.int64), np.array([[1, -1], [-1, -1]]))
    return None


def _bordered(prime: int, below: int) -> _Integers:
    """Whether i - j is a square in the field of `prime` elements (1) or not (-1), in a border of ones."""
    squares = np.full(prime, -1)
    squares[np.arange(1, prime) ** 2 % prime] = 1
    squares[0] = 0
    made = np.zeros((prime + 1, prime + 1), np.int64)
    made[0, 1:], made[1:, 0] = 1, below
    places = np.arange(prime)
    made[1:, 1:] = squares[(places[:, None] - places) % prime]
    return made


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, int(number**0.5) + 1))
