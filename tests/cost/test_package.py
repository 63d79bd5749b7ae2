"""Bytes of packages, from sizes alone, are those that are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cost import GraphWork, data_bytes, decoder_work, with_forms, work_of
from graphopt.errors import BadInput
from graphopt.io import read_json
from graphopt.ir import load_model

FORMS = {"lossless": "32", "int8": "8/32", "int4": "4/128"}


def rounded(work: GraphWork, form: str) -> GraphWork:
    """As quantize-weights does it: every matrix of 4096 entries but angles."""
    names = {
        weight.name.partition("~")[0]: form
        for weight in work.weights
        if len(weight.shape) == 2 and weight.bytes >= 4 * 4096 and not weight.name.startswith("rotary")
    }
    return with_forms(work, names)


@pytest.mark.parametrize("recipe", FORMS)
def test_of_the_embedded_model(recipe: str, tiny_coder: Path, tiny_coder_at: Callable[[str], Path]) -> None:
    folder = tiny_coder_at(recipe)
    written = (folder / "model.onnx.data").stat().st_size
    assert data_bytes(work_of(load_model(folder / "model.onnx"))) == written
    assert data_bytes(rounded(decoder_work(read_json(tiny_coder / "config.json")), FORMS[recipe])) == written


def test_forms_and_names_that_there_are_not(tiny_coder: Path) -> None:
    work = decoder_work(read_json(tiny_coder / "config.json"))
    with pytest.raises(BadInput, match="no form of weights"):
        with_forms(work, {"lm_head.weight": "5/128"})
    with pytest.raises(BadInput, match="no weight 'w'"):
        with_forms(work, {"w": "4/128"})


def test_halves_take_half_of_what_is_named(tiny_coder: Path) -> None:
    work = decoder_work(read_json(tiny_coder / "config.json"))
    halved = with_forms(work, {weight.name: "16" for weight in work.weights})
    before = {weight.name: weight.bytes for weight in work.weights}
    kept = {weight.name: weight.bytes for weight in halved.weights if weight.bytes == before[weight.name]}
    assert 2 * halved.weight_bytes - sum(kept.values()) == work.weight_bytes
    assert all(size <= 16 for size in kept.values())  # constants of a few numbers, no weights
    assert [n.operator for n in halved.nodes[:3]] == ["Gather", "Cast", "RMSNormalization"]


def test_a_cache_of_integers(tiny_coder: Path) -> None:
    work = decoder_work(read_json(tiny_coder / "config.json"))
    small = with_forms(work, {}, cache_bits=8)
    assert 4 * small.cache_bytes(2, 64) == work.cache_bytes(2, 64)
    assert small.weight_bytes - work.weight_bytes == 6 * 2 * 64 * 4  # a scale for each channel of each head
