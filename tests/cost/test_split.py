"""Decoders on several devices, by hand."""

from __future__ import annotations

import pytest

from graphopt.cost import SHAPES, Call, decoder_work, tensor_parallel
from graphopt.errors import BadInput


def test_a_decoder_on_eight_devices() -> None:
    work = decoder_work(SHAPES["llama-3.1-8b"])
    split = tensor_parallel(work, 8)
    call = Call(2, 1, 100)
    assert 8 * split.work.flops(call) == work.flops(call)
    assert 8 * split.work.cache_bytes(2, 100) == work.cache_bytes(2, 100)
    assert split.reduced_bytes(call) == 2 * 32 * 2 * 4096 * 4  # two sums a layer, a row for each text
    products = {n.product.name: n.product.bytes for n in work.nodes if n.product}
    assert work.weight_bytes - split.work.weight_bytes == 7 * sum(products.values()) // 8


def test_heads_that_do_not_divide() -> None:
    with pytest.raises(BadInput, match="not shared out evenly by 3"):
        tensor_parallel(decoder_work(SHAPES["llama-3.1-8b"]), 3)


def test_experts_are_shared_out_and_what_chooses_them_is_not() -> None:
    work = decoder_work(SHAPES["qwen3-30b-a3b"])
    split = tensor_parallel(work, 4)
    call = Call(2, 1, 100)
    routers = 48 * 2048 * 128
    assert 4 * split.work.flops(call) == work.flops(call) + 3 * 2 * 2 * routers
    assert split.reduced_bytes(call) == 2 * 48 * 2 * 2048 * 4
    products = sum(n.product.bytes for n in work.nodes if n.product) - 4 * routers
    assert work.weight_bytes - split.work.weight_bytes == 3 * products // 4
