"""Numbers as people read them."""

from __future__ import annotations

import pytest

from graphopt.report import bytes_change, bytes_text, number, plural, seconds_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (11_400_000, "11.4 MB"),
        (634_000_000, "634 MB"),
        (2_490_000_000, "2.49 GB"),
        (3_000_000_000_000, "3000 GB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (45_600_000, 11_400_000, "45.6 → 11.4 MB"),
        (2_490_000_000, 634_000_000, "2.49 → 0.634 GB"),
        (5_000_000, 5_000_000, "5 MB"),
        (0, 16, "0 → 16 B"),
    ],
)
def test_a_change_in_bytes_has_one_unit(before: int, after: int, text: str) -> None:
    assert bytes_change(before, after) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (119, "119 s"), (200.4, "3 min 20 s")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0098765, "0.00988"),
        (1e-7, "1.0e-07"),
        (0.9987, "0.999"),
        (7.91e-4, "0.000791"),
        (5123.4, "5,123"),
        (float("inf"), "inf"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_plurals() -> None:
    assert [plural(n, noun) for n, noun in ((1, "edit"), (2, "edit"), (2, "pass"), (2, "near miss"))] == [
        "1 edit",
        "2 edits",
        "2 passes",
        "2 near misses",
    ]
