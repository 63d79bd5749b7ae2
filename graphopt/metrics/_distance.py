"""How far two results are apart: the numbers that lossless and lossy bounds are stated in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["changed_tokens", "cosines", "divergences", "scaled_difference"]


def scaled_difference(expected: NDArray[np.floating], got: NDArray[np.floating]) -> float:
    """max |Δ| over the standard deviation of `expected`; inf where shapes differ or only one is finite."""
    if expected.shape != got.shape or not np.array_equal(np.isfinite(expected), np.isfinite(got)):
        return float("inf")
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    a, b = expected[finite].astype(np.float64), got[finite].astype(np.float64)
    largest, spread = float(np.abs(a - b).max()), float(a.std())
    return largest / spread if spread > 0 else largest


def changed_tokens(expected: NDArray[np.floating], got: NDArray[np.floating], tie: float) -> int:
    """Rows whose largest entry is another one in `got`, near-ties aside; logits of shape [..., vocab].

    A near-tie is two entries of `expected` closer than `tie` standard deviations: twice what a result may be
    off by.
    """
    if expected.shape != got.shape:
        return expected[..., 0].size
    a, b = expected.reshape(-1, expected.shape[-1]), got.reshape(-1, got.shape[-1])
    rows = np.arange(len(a))
    lost = a[rows, a.argmax(-1)] - a[rows, b.argmax(-1)]
    return int(np.count_nonzero(lost > tie * a.std()))


def divergences(expected: NDArray[np.floating], got: NDArray[np.floating]) -> NDArray[np.float64]:
    """KL(expected || got), nats, of every row of logits [..., vocab]; inf where `got` is NaN or misshapen."""
    if expected.shape != got.shape:
        return np.asarray([np.inf])
    p, q = _log_softmax(expected), _log_softmax(got)
    kl = np.sum(np.exp(p) * (p - q), axis=-1).reshape(-1)
    return np.where(np.isnan(kl), np.inf, np.maximum(kl, 0.0))


def cosines(expected: NDArray[np.floating], got: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine between rows (last axis); -1 where shapes differ or `got` is not finite."""
    if expected.shape != got.shape:
        return np.asarray([-1.0])
    a = expected.reshape(-1, expected.shape[-1]).astype(np.float64)
    b = got.reshape(-1, got.shape[-1]).astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    both_zero = ~a.any(-1) & ~b.any(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.einsum("ij,ij->i", a, b) / norms
    return np.where(both_zero, 1.0, np.where(np.isfinite(cosine), cosine, -1.0))


def _log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
