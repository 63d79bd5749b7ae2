"""Divergence, cosine and noise: right against references, and at what has no value."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from graphopt.metrics import (
    cosine_similarity,
    kl_divergence,
    log_softmax,
    rms_difference,
    scaled_difference,
    sqnr,
    top1_mismatches,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((3, 7)).astype(np.float32)
B = A + RNG.standard_normal(A.shape).astype(np.float32) / 10


def test_log_softmax_is_that_of_scipy() -> None:
    np.testing.assert_allclose(
        log_softmax(A), scipy.special.log_softmax(A.astype(np.float64), -1), rtol=1e-12
    )


def test_kl_divergence_is_that_of_scipy() -> None:
    p, q = (scipy.special.softmax(x.astype(np.float64), -1) for x in (A, B))

    np.testing.assert_allclose(kl_divergence(A, B), scipy.stats.entropy(p, q, axis=-1), rtol=1e-9)


def test_tokens_that_are_ruled_out_count_nothing() -> None:
    """Both say that token 2 cannot come; then only one does."""
    masked, open_ = A.copy(), B.copy()
    masked[:, 2] = -np.inf

    assert (kl_divergence(masked, masked) == 0).all()
    assert np.isfinite(kl_divergence(masked, open_)).all()
    assert np.isposinf(kl_divergence(open_, masked)).all()


def test_what_is_no_distribution_is_infinitely_far() -> None:
    assert np.isposinf(kl_divergence(A, np.full_like(A, np.nan))).all()
    assert np.isposinf(kl_divergence(A, A[:2])).all()


def test_cosines() -> None:
    assert cosine_similarity(A, 3 * A) == pytest.approx(1)
    assert cosine_similarity(A, -A) == pytest.approx(-1)
    assert cosine_similarity(np.zeros_like(A), np.zeros_like(A)).tolist() == [1, 1, 1]
    assert cosine_similarity(A, np.full_like(A, np.inf)).tolist() == [-1, -1, -1]
    assert cosine_similarity(A, A[:2]).tolist() == [-1]


def test_noise_of_a_tenth_is_twenty_decibels() -> None:
    assert sqnr(A, A * np.float32(1.1)) == pytest.approx(20, abs=1e-4)
    assert sqnr(A, A) == math.inf
    assert sqnr(np.zeros_like(A), A) == -math.inf


def test_differences_are_in_standard_deviations() -> None:
    assert scaled_difference(A, A + np.float32(0.5)) == pytest.approx(0.5 / A.std(), rel=1e-5)
    assert rms_difference(A, A + np.float32(0.5)) == pytest.approx(0.5 / A.std(), rel=1e-5)
    assert rms_difference(A, B) < scaled_difference(A, B)
    for apart in (scaled_difference, rms_difference):
        assert apart(A, A) == 0
        assert apart(A, A[:2]) == math.inf
        assert apart(A, np.full_like(A, np.nan)) == math.inf


def test_a_near_tie_is_no_mismatch() -> None:
    logits = np.asarray([[1.0, 1.001, -5.0], [3.0, 0.0, 0.0]], np.float32)
    swapped = logits[:, [1, 0, 2]]

    assert top1_mismatches(logits, swapped, tie=0.01) == 1
    assert top1_mismatches(logits, swapped, tie=0.0) == 2
