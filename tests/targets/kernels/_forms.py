"""Marks of tests that run in each form of a kernel: see the fixture `form`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

__all__ = ["THREE", "TWO", "in_each", "marks"]

_Test = TypeVar("_Test", bound=Callable[..., None])

TWO = ("graphopt-avx512-vnni", "graphopt-avx2")
"""Those of most kernels: with AVX-VNNI that of AVX2 runs, too."""
THREE = (*TWO, "graphopt-avx-vnni")
"""Those of products of quantized weights."""


def marks(forms: Sequence[str]) -> list[pytest.MarkDecorator]:
    """What a module says whose tests all run in each of these forms."""
    return [pytest.mark.usefixtures("form"), pytest.mark.parametrize("form", forms, indirect=True)]


def in_each(forms: Sequence[str]) -> Callable[[_Test], _Test]:
    """The decorator of a test that does."""

    def marked(test: _Test) -> _Test:
        for mark in marks(forms):
            test = mark(test)
        return test

    return marked
