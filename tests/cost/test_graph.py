"""Work of graphs, against what is known of them by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cost import Call, work_of
from graphopt.ir import load_model


@pytest.mark.parametrize("recipe", ["int4", "int8", "lossless"])
def test_of_the_embedded_model_by_hand(recipe: str, tiny_coder_at: Callable[[str], Path]) -> None:
    work = work_of(load_model(tiny_coder_at(recipe) / "model.onnx"))
    assert work.unknown == ()
    assert work.vocabulary == 4096
    layer = 256 * 384 + 256 * 256 + 3 * 256 * 768
    for call in (Call(), Call(2, 7, 30), Call(3, 100)):
        pairs = sum(call.past + i + 1 for i in range(call.rows))
        attention = 8 * 32 * 2 * pairs  # of each head queries with keys, and weights with values
        products = call.batch * (6 * (call.rows * layer + attention) + 256 * 4096)
        assert work.flops(call) == 2 * products
    assert work.cache_bytes(3, 100) == 6 * 2 * 3 * 2 * 100 * 32 * 4
    (head,) = [node for node in work.nodes if node.product and node.product.n == 4096]
    assert head.product is not None
    assert head.product.last_only
    assert sum(node.kind == "attention" for node in work.nodes) == 6
    assert sum(node.kind == "lookup" for node in work.nodes) == 1
