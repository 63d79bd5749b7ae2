"""The table of exported nets: what does not hold is named; its section leaves the rest of the page alone."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from graphopt.metrics import Estimate

GOOD: dict[str, Any] = {
    "net": "good",
    "exported": "by hand",
    "nodes": 9,
    "bytes": 1000,
    "ms": 1.0,
    "lossless_nodes": 5,
    "lossless_bytes": 1000,
    "lossless_speed": Estimate(1.0, 0.97, 1.01),
    "lossless_error": 0.0,
    "int8_nodes": 5,
    "int8_quantized": 1,
    "int8_bytes": 900,
    "int8_speed": Estimate(1.2, 1.1, 1.3),
    "slim_nodes": 5,
    "again_speed": Estimate(1.0, 0.99, 1.01),
}


@pytest.fixture(scope="module")
def page(script: Callable[[str], ModuleType]) -> Any:
    return script("_coverage_page")


def rows(page: Any, **changes: Any) -> list[str]:
    from benchmarks._results import Table

    one = GOOD | {"net": "other"} | changes
    table = Table(name="nets", key="net", date="", machine="", versions={}, command="", rows=[GOOD, one])
    return [line for line in page.asked(table).splitlines()[2:] if "other" in line]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lossless_bytes": 1001}, "no larger than the source, `lossless`"),
        ({"lossless_speed": Estimate(0.9, 0.85, 0.98)}, "no slower than the source beyond noise, `lossless`"),
        ({"lossless_nodes": 6}, "at most 1.05 times as many nodes"),
        ({"int8_bytes": 1001}, "`int8` where it"),
        ({"int8_quantized": 0}, "not left in floats"),
    ],
)
def test_a_net_for_which_something_does_not_hold_is_named(page: Any, changes: Any, said: str) -> None:
    (line,) = rows(page, **changes)
    assert said in line
    assert line.endswith("| 1 | other |")


def test_a_net_that_is_as_good_is_not_named(page: Any) -> None:
    assert rows(page) == []


def test_noise_is_how_far_equals_are_apart_in_either_direction(page: Any) -> None:
    apart = {"again_speed": Estimate(1.03, 1.02, 1.04)}
    for value, named in ((0.97, False), (0.95, True)):
        lines = rows(page, lossless_speed=Estimate(value, value - 0.01, value), **apart)
        assert any("no slower" in line for line in lines) == named


def test_a_section_takes_the_place_of_the_one_that_was_there(page: Any) -> None:
    whole = f"# Coverage\n\n{page.TITLE}\n\nold\n\n## Rest\n\nrest\n"
    new = page.replaced(whole, f"{page.TITLE}\n\nnew\n")
    assert new == f"# Coverage\n\n{page.TITLE}\n\nnew\n\n## Rest\n\nrest\n"
    assert page.replaced(new, f"{page.TITLE}\n\nnew\n") == new
    assert page.replaced("# Coverage\n", f"{page.TITLE}\n\nnew\n").endswith(f"{page.TITLE}\n\nnew\n")


@pytest.mark.parametrize(
    "found", [[1.0, 2.0], [[1.0, np.nan]], [[1.0, 3.0]], np.float64([[1.0, 2.0]])], ids=str
)
def test_another_shape_type_or_value_is_an_error(script: Callable[[str], ModuleType], found: Any) -> None:
    off = script("_coverage_worker")._off
    expected = np.float32([[1.0, 2.0]])
    assert off(expected, expected) == 0
    assert off(expected, found if isinstance(found, np.ndarray) else np.float32(found)) > 1
