"""Rows of a batch, run apart and cut to about their own lengths, give what they give together."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphopt_models._text_domain import EncoderDomain, mask_of
from hypothesis import given
from hypothesis import strategies as st

from graphopt import Package
from graphopt.evaluate._graph_check import rows_stand_alone
from graphopt.interface import Interface, TensorSpec
from graphopt.package import MANIFEST
from graphopt.recipes import Budget
from graphopt.runtime import LengthBucketing, has_rows, measured_batch_tokens
from graphopt.runtime._bucketing import split

TEXT = ("batch", "sequence")
INTERFACE = Interface(
    (TensorSpec("input_ids", "int64", TEXT), TensorSpec("attention_mask", "int64", TEXT)),
    (TensorSpec("states", "float32", (*TEXT, 3)), TensorSpec("pooled", "float32", ("batch", 3))),
)
WORDS = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)


class Encoder:
    """Every token beside the mean of those that are not masked, or of all; and how much was computed."""

    def __init__(self, *, looks_at_padding: bool = False) -> None:
        self.looks_at_padding = looks_at_padding
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append(feeds["input_ids"].shape)
        words = WORDS[feeds["input_ids"]]
        seen = np.ones_like(words) if self.looks_at_padding else feeds["attention_mask"][..., None]
        mean = ((words * seen).sum(1) / np.maximum(seen.sum(1), 1)).astype(np.float32)
        return {"states": words + mean[:, None], "pooled": mean}


def batch(lengths: list[int], width: int, side: Any = "right") -> dict[str, Any]:
    mask = mask_of(lengths, width, side)
    ids = np.random.default_rng(1).integers(1, 50, mask.shape)
    return {"input_ids": ids * mask, "attention_mask": mask}


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.sampled_from([0, 1, 40, 1000]),
    st.sampled_from([0, 3, 16, 1000]),
)
def test_real_tokens_are_as_in_the_padded_batch(lengths: list[int], tokens: int, call_overhead: int) -> None:
    feeds = batch(lengths, 30)
    expected, model = Encoder()(feeds), Encoder()

    found = LengthBucketing(model, INTERFACE, max_batch_tokens=tokens, call_overhead=call_overhead)(feeds)

    real = (feeds["attention_mask"] != 0) | (np.asarray(lengths) == 0)[:, None]
    np.testing.assert_allclose(found["states"][real], expected["states"][real], atol=1e-6)
    np.testing.assert_allclose(found["pooled"], expected["pooled"], atol=1e-6)
    assert {name: array.shape for name, array in found.items()} == {
        name: array.shape for name, array in expected.items()
    }
    assert all(rows == 1 or rows * length <= (tokens or 10**9) for rows, length in model.calls)


def test_little_padding_is_computed() -> None:
    lengths = [4, 5, 30, 4, 29, 5, 4, 30]
    model = Encoder()

    LengthBucketing(model, INTERFACE, max_batch_tokens=0, call_overhead=16)(batch(lengths, 64))

    assert model.calls == [(5, 5), (3, 30)]


@pytest.mark.parametrize(
    ("lengths", "side"), [([7, 7, 7], "right"), ([3, 7, 5], "left"), ([7], "right")], ids=str
)
def test_what_has_no_padding_on_its_right_is_run_as_it_is(lengths: list[int], side: str) -> None:
    model = Encoder()

    LengthBucketing(model, INTERFACE, max_batch_tokens=0, call_overhead=0)(batch(lengths, 7, side))

    assert model.calls == [(len(lengths), 7)]


def test_a_large_batch_is_run_in_calls_of_few_tokens() -> None:
    model = Encoder()

    LengthBucketing(model, INTERFACE, max_batch_tokens=100, call_overhead=16)(batch([30] * 8, 30))

    assert sorted(model.calls) == [(2, 30), (3, 30), (3, 30)]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.sampled_from([0, 1, 30, 80]),
    st.integers(0, 40),
)
def test_no_split_is_cheaper(lengths: list[int], tokens: int, call_overhead: int) -> None:
    def cost(longest: tuple[int, ...]) -> int:
        total = 0
        for shorter, length in zip((0, *longest), longest, strict=False):
            rows = sum(shorter < one <= length for one in lengths)
            calls = -(-rows // max(1, tokens // length)) if tokens else 1
            total += rows * length + calls * call_overhead
        return total

    found = split(np.asarray(lengths), tokens, call_overhead)
    shorter, largest = sorted(set(lengths) - {max(lengths)}), max(lengths)

    assert sorted(np.concatenate([rows for rows, _ in found])) == list(range(len(lengths)))
    assert all(max(lengths[row] for row in rows) <= length for rows, length in found)
    assert sum(len(rows) * length + call_overhead for rows, length in found) == min(
        cost((*some, largest)) for n in range(len(shorter) + 1) for some in combinations(shorter, n)
    )


def test_the_fewest_tokens_that_are_about_as_fast_as_any_are_chosen() -> None:
    seconds = {2: 0.03, 4: 0.02, 8: 0.04}  # a text takes 15, 5 and 5 ms

    def model(feeds: Mapping[str, Any]) -> dict[str, Any]:
        time.sleep(seconds[len(feeds["input_ids"])])
        return {}

    assert measured_batch_tokens(model, batch([10], 10), sizes=(20, 40, 80)) == 40
    assert measured_batch_tokens(model, batch([10], 10), sizes=(5,)) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_ids": np.ones((2, 8), np.int64)},
        {"input_ids": np.ones(2, np.int64)},
        {"more": np.ones((2, 9))},
    ],
    ids=["another width", "another rank", "an unknown input"],
)
def test_inputs_that_do_not_fit_are_left_to_the_model(wrong: dict[str, Any]) -> None:
    feeds = batch([2, 9], 9) | wrong
    seen: list[Any] = []

    def model(given: Any) -> Any:
        seen.append(given)
        return {}

    LengthBucketing(model, INTERFACE, max_batch_tokens=0, call_overhead=0)(feeds)

    assert len(seen) == 1
    assert seen[0] is feeds


def interface(*outputs: tuple[Any, ...], mask: tuple[Any, ...] = TEXT) -> Interface:
    ids = TensorSpec("input_ids", "int64", TEXT)
    named = (TensorSpec(f"out{i}", "float32", dims) for i, dims in enumerate(outputs))
    return Interface((ids, TensorSpec("attention_mask", "int64", mask)), tuple(named))


@pytest.mark.parametrize(
    ("described", "fits"),
    [
        pytest.param(INTERFACE, True, id="a text encoder"),
        pytest.param(interface(("batch", 4, "sequence")), True, id="positions last"),
        pytest.param(interface(("images", "batch")), False, id="a table of pairs"),
        pytest.param(interface(("batch", "batch")), False, id="each with each"),
        pytest.param(interface(("batch", "sequence", "sequence")), False, id="attention weights"),
        pytest.param(interface(("batch", "chosen")), False, id="a size that depends on values"),
        pytest.param(interface((None, 3)), False, id="an unknown batch"),
        pytest.param(interface((4, 3)), False, id="another batch"),
        pytest.param(interface(()), False, id="a number"),
        pytest.param(interface(("batch", 3), mask=("batch", 8)), False, id="a fixed width"),
        pytest.param(Interface(INTERFACE.inputs[:1], INTERFACE.outputs), False, id="no mask"),
    ],
)
def test_which_models_it_can_be_done_with(described: Interface, fits: bool) -> None:
    assert has_rows(described) is fits


@pytest.mark.parametrize("looks_at_padding", [False, True])
def test_the_closing_check_finds_out_whether_padding_changes_anything(looks_at_padding: bool) -> None:
    domain = EncoderDomain(INTERFACE, {"vocab_size": 50})
    model = Encoder(looks_at_padding=looks_at_padding)

    assert rows_stand_alone(model, model, INTERFACE, domain, Budget()) is not looks_at_padding


def test_a_package_runs_each_text_as_if_it_were_alone(encoder: tuple[Path, Path]) -> None:
    package = Package.load(encoder[1])
    feeds = batch([3, 9, 4, 60, 58], 60)
    feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])

    found = package.run(feeds)

    assert package.manifest.max_batch_tokens
    for row, length in enumerate([3, 9, 4, 60, 58]):
        alone = package.session().run(
            None, {name: array[row : row + 1, :length] for name, array in feeds.items()}
        )
        for name, expected in zip(found, alone, strict=True):
            got = found[name][row, :length] if expected.ndim == 3 else found[name][row]
            np.testing.assert_allclose(got, expected[0], atol=1e-4)
    assert not found["last_hidden_state"][0, 9:].any()


def test_a_manifest_that_claims_rows_where_there_are_none_is_run_as_it_is(
    encoder: tuple[Path, Path], tmp_path: Path
) -> None:
    """Whoever wrote graphopt.json: a package is untrusted input."""
    package = Package.load(shutil.copytree(encoder[1], tmp_path / "package"))
    manifest = json.loads((package.path / MANIFEST).read_text())
    for port in manifest["graphs"]["model"]["inputs"]:
        port["shape"] = [2, 9]
    (package.path / MANIFEST).write_text(json.dumps(manifest))
    feeds = batch([3, 9], 9)
    feeds["token_type_ids"] = np.zeros_like(feeds["input_ids"])

    found = Package.load(package.path).run(feeds)

    assert found["last_hidden_state"][0, 3:].any()


def test_an_older_manifest_says_it_by_another_name(encoder: tuple[Path, Path], tmp_path: Path) -> None:
    package = Package.load(shutil.copytree(encoder[1], tmp_path / "package"))
    manifest = json.loads((package.path / MANIFEST).read_text())
    manifest["tokens_a_call"] = manifest.pop("max_batch_tokens")
    (package.path / MANIFEST).write_text(json.dumps(manifest))

    assert Package.load(package.path).manifest.max_batch_tokens == package.manifest.max_batch_tokens
