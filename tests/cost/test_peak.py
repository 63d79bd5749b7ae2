"""Peak memory, against what a process of `bench` was seen to take."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.cost import DecoderShape, Situation, decoder_work, peak_memory, with_forms
from graphopt.errors import BadInput
from graphopt.io import read_json
from tests.cost._machine import profile


def test_a_longer_text_takes_its_cache_and_its_arena(tiny_coder: Path) -> None:
    work = with_forms(decoder_work(read_json(tiny_coder / "config.json")), {"lm_head.weight": "4/128"})
    here = profile()
    short, long = (peak_memory(work, here, Situation(prompt=rows, new=0)).value for rows in (64, 128))
    row = 4 * (3 * 768 + 2 * 256)  # gate, its silu and up; what is added to, and its norm
    more = long - short - work.cache_bytes(1, 64)
    assert 64 * row < more < 1.75 * 2 * 64 * row  # regions are up to twice as large as what is in them


def test_opening_takes_a_head_of_floats_twice_that_lies_turned(tiny_coder: Path) -> None:
    config = read_json(tiny_coder / "config.json")
    here, asked = profile(), Situation(prompt=1, new=0)
    tied = peak_memory(decoder_work(config), here, asked).value
    packed = sum(n.product.bytes for n in decoder_work(config).nodes if n.product)
    assert tied > 135.4e6 + packed + 4 * 4096 * 256


def test_a_table_of_floats_beside_blocks_is_resident_by_windows_or_as_a_whole(tiny_coder: Path) -> None:
    config = read_json(tiny_coder / "config.json")
    floats = decoder_work(config | {"vocab_size": 1 << 17, "tie_word_embeddings": False})
    work = with_forms(floats, {n.product.name: "4/32" for n in floats.nodes if n.product is not None})
    table, asked = 4 * (1 << 17) * 256, Situation(prompt=8, new=0)
    theirs = peak_memory(work, profile(), asked)
    ours = peak_memory(work, profile(identity={"kernels": "graphopt-avx2"}), asked)
    assert ours.value - theirs.value == pytest.approx(8 * ((2 << 20) - (64 << 10)), rel=0.1)
    assert theirs.high - theirs.value > table * 0.9


def test_a_decoder_whose_layers_are_not_known_is_to_be_exported() -> None:
    with pytest.raises(BadInput, match="type 'mamba'"):
        DecoderShape.of({"model_type": "mamba"})
    with pytest.raises(BadInput, match="hidden_size"):
        DecoderShape.of({"model_type": "llama"})
