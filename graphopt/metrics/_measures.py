"""The numbers that lossless and lossy bounds are stated in: two results of one computation, side by side."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "cosine_similarity",
    "kl_divergence",
    "kl_of_log_probabilities",
    "log_softmax",
    "rms_difference",
    "scaled_difference",
    "sqnr",
    "top1_mismatches",
]

Floats = NDArray[np.floating[Any]]


def scaled_difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """max |Δ| over the standard deviation of `expected`; inf where shapes differ or only one is finite."""
    pair = _finite(expected, got)
    if pair is None:
        return math.inf
    a, b = pair
    return _share_of_spread(float(np.abs(a - b).max()), a) if a.size else 0.0


def rms_difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Root mean square of Δ over the standard deviation of `expected`; inf as `scaled_difference` has it."""
    pair = _finite(expected, got)
    if pair is None:
        return math.inf
    a, b = pair
    return _share_of_spread(math.sqrt(float(np.mean((a - b) ** 2))), a) if a.size else 0.0


def _finite(
    expected: NDArray[Any], got: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The entries of both that are finite; None where shapes differ, or which entries are."""
    if expected.shape != got.shape or not np.array_equal(np.isfinite(expected), np.isfinite(got)):
        return None
    finite = np.isfinite(expected)
    return expected[finite].astype(np.float64), got[finite].astype(np.float64)


def _share_of_spread(size: float, values: NDArray[np.float64]) -> float:
    """`size` in standard deviations of `values`, or itself where these are all the same."""
    spread = float(values.std())
    return size / spread if spread > 0 else size


def top1_mismatches(expected: Floats, got: Floats, tie: float) -> int:
    """Rows whose largest entry is another one in `got`, near-ties aside; logits of shape [..., vocabulary].

    A near-tie is two entries of `expected` closer than `tie` standard deviations: twice what a result may be
    off by.
    """
    if expected.shape != got.shape:
        return expected[..., 0].size
    a, b = expected.reshape(-1, expected.shape[-1]), got.reshape(-1, got.shape[-1])
    rows = np.arange(len(a))
    lost = a[rows, a.argmax(-1)] - a[rows, b.argmax(-1)]
    return int(np.count_nonzero(lost > tie * a.std()))


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Log-probabilities over the last axis, in float64; NaN where a row has NaN or +inf."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        wide -= wide.max(-1, keepdims=True)
        wide -= np.log(np.exp(wide).sum(-1, keepdims=True))
    return wide


def kl_divergence(expected: Floats, got: Floats) -> NDArray[np.float64]:
    """KL(expected || got), nats, of every row of logits [..., vocabulary]; inf where `got` is NaN or
    misshapen. (Kullback and Leibler 1951.)"""
    if expected.shape != got.shape:
        return np.asarray([np.inf])
    return kl_of_log_probabilities(log_softmax(expected), log_softmax(got)).reshape(-1)


def kl_of_log_probabilities(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(p || q), nats, over the last axis of log-probabilities; what `p` rules out (-inf) counts nothing."""
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(p), 0.0, np.exp(p) * (p - q))
    kl = terms.sum(-1)
    return np.where(np.isnan(kl), np.inf, kl).clip(min=0.0)


def cosine_similarity(expected: Floats, got: Floats) -> NDArray[np.float64]:
    """Cosine of the angle between rows (last axis); -1 where shapes differ or `got` is not finite."""
    if expected.shape != got.shape:
        return np.asarray([-1.0])
    a = expected.reshape(-1, expected.shape[-1]).astype(np.float64)
    b = got.reshape(-1, got.shape[-1]).astype(np.float64)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    both_zero = ~a.any(-1) & ~b.any(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (a * b).sum(-1) / norms
    return np.where(both_zero, 1.0, np.where(np.isfinite(cosine), cosine, -1.0))


def sqnr(expected: Floats, got: Floats) -> float:
    """Signal-to-quantization-noise ratio, dB: 10 log10(Σ expected² / Σ Δ²); inf where nothing differs."""
    a, b = expected.astype(np.float64), got.astype(np.float64)
    signal, noise = float(np.sum(a * a)), float(np.sum((a - b) ** 2))
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
