"""The embedded model with its keys and values in int8, from recipe to text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt import Package
from tests.runtime._served import served

PROMPT = "def area(width, height):\n    return"


@pytest.fixture(scope="module")
def package(tiny_coder_at: Callable[[str], Path]) -> Package:
    return Package.load(tiny_coder_at("int4-kv8"))


def test_it_keeps_the_budget_and_its_cache_in_int8(package: Package) -> None:
    assert package.manifest.closing_check == "passed"
    graph = package.manifest.graphs["model"]
    assert {port.dtype for port in graph.past()} == {"int8"}
    assert list((graph.states or {}).values()) == [p.name for p in graph.outputs if p.name != "logits"]
    assert {a["kind"] for a in package.manifest.adapters} == {"last-token-logits", "quantized-cache"}


def test_its_edits_are_within_their_budget(package: Package) -> None:
    (record,) = (p for p in package.report().passes if p.step == "quantize-kv")

    assert {(e.verdict, e.how) for e in record.edits} <= {
        ("within budget", "numeric"),
        ("within budget", "deduplicated"),
    }
    assert len(record.edits) == 6
    assert all("within the range" in e.reason for e in record.edits)


def test_it_says_what_genai_says(package: Package) -> None:
    assert package.generate(PROMPT, max_new_tokens=8) == served(package.path, PROMPT, 8)


def test_it_is_measured_in_the_native_loop(package: Package) -> None:
    found = package.bench(prompt_tokens=8, new_tokens=3, rounds=1)

    assert found.speed.generates
    assert found.speed.throughput.value > 0
