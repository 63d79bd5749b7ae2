"""What passes say beforehand of how they store weights is how they store them."""

from __future__ import annotations

import pytest

from graphopt.pipeline import Pass
from graphopt.plugins import registry


def _pass(name: str, **options: object) -> Pass:
    return registry.passes()[name].configure(options)


@pytest.mark.parametrize(
    ("options", "name", "k", "n", "looked_up", "form"),
    [
        ({"bits": 4}, "w", 256, 1024, False, "4/128"),
        ({"bits": 4, "block_size": "auto"}, "w", 256, 1024, False, "4/128"),
        ({"bits": 8, "block_size": 32}, "w", 256, 1024, False, "8/32"),
        ({"bits": 4, "zero_points": "always"}, "w", 256, 1024, False, "4/128z"),
        ({"bits": 4}, "w", 32, 1024, False, "4/32"),
        ({"bits": 4}, "w", 8, 8, False, None),
        ({"bits": 4, "exclude": "w"}, "w", 256, 1024, False, None),
        ({"bits": 4}, "w", 256, 1024, True, None),
        ({"bits": 4, "embedding": "all"}, "w", 256, 1024, True, "8/128"),
        ({"bits": 4, "embedding": "all"}, "w", 96, 1024, True, "8/32"),
        ({"bits": 4, "embedding": "all"}, "w", 100, 1024, True, None),
    ],
)
def test_quantized_weights(
    options: dict[str, object], name: str, k: int, n: int, looked_up: bool, form: str | None
) -> None:
    assert _pass("quantize-weights", **options).form(name, k, n, looked_up=looked_up) == form


@pytest.mark.parametrize(
    ("options", "width", "form"),
    [
        ({"bits": 4}, 768, "4/128"),
        ({"bits": 8}, 192, "8/64"),
        ({"bits": 4, "block_size": 32}, 768, "4/32"),
        ({"bits": 4}, 24, None),
        ({"bits": 4, "exclude": "w"}, 768, None),
    ],
)
def test_experts(options: dict[str, object], width: int, form: str | None) -> None:
    """Blocks end with rows of both widths."""
    assert _pass("quantize-experts", **options).form("w", 2048, 3 * width, experts=8) == form
    assert _pass("quantize-experts", **options).form("w", 2048, 3 * width) is None
    assert _pass("quantize-weights", bits=4).form("w", 2048, 3 * width, experts=8) is None
    assert _pass("store-fp16").form("w", 16, 24, experts=8) == "16"


def test_floats_caches_and_passes_that_store_nothing() -> None:
    assert _pass("store-fp16").form("w", 256, 256) == "16"
    assert _pass("store-fp16").form("w", 16, 16) is None
    assert _pass("quantize-kv").cache_bits == 8
    assert _pass("quantize-kv", bits=4).cache_bits == 4
    assert _pass("cse").form("w", 256, 256) is None
    assert _pass("cse").cache_bits is None
