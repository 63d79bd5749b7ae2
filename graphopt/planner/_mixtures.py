"""Forms that come to so many bits a weight, where no damage of any weight is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphopt.planner._recipes import Stored

__all__ = ["GRID", "bits_of", "largest", "mixture"]

GRID = (3.0, 3.25, 3.5, 3.75, 4.0, 4.25, 4.5, 4.75, 5.0, 5.5, 6.0, 7.0, 8.0)
"""Bits a weight that plans are weighed at."""
_FORMS = ("2/128", "4/128", "8/128")
_STEPS = 14
"""Halvings of 6 bits: a thousandth of one is left."""


def bits_of(form: str) -> float:
    """Bits that an entry takes, its share of a float32 scale and of a zero point included."""
    bits, _, block = form.partition("/")
    if not block:
        return float(bits)
    size, zeros = int(block.rstrip("z")), block.endswith("z")
    return int(bits) + (32 + (int(bits) if zeros else 0)) / size


def mixture(weights: Sequence[Stored], bpw: float) -> Mapping[str, str]:
    """Forms by weight that come to at most `bpw` bits in the mean: two of them, of which the first weights
    have the larger. Which weights should have it, measuring tells."""
    smaller = max((f for f in _FORMS if bits_of(f) <= bpw), key=bits_of, default=_FORMS[0])
    larger = min((f for f in _FORMS if bits_of(f) > bpw), key=bits_of, default=smaller)
    spare = (bpw - bits_of(smaller)) * sum(weight.entries for weight in weights)
    found = {}
    for weight in weights:
        more = (bits_of(larger) - bits_of(smaller)) * weight.entries
        found[weight.name] = larger if more and more <= spare else smaller
        spare -= more if found[weight.name] == larger else 0.0
    return found


def largest(keeps: Callable[[float], bool]) -> float | None:
    """The most bits a weight, from 2.25 to 8.25, that `keeps` holds for; None where not even the least do.

    `keeps` holds up to some number of bits."""
    low, high = bits_of(_FORMS[0]), bits_of(_FORMS[-1])
    if not keeps(low):
        return None
    if keeps(high):
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low
