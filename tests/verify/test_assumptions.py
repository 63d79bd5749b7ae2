"""What an edit assumes rules calls out, for the verifier, the closing check and `validate` alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graphopt_passes.lower_attention import LowerAttention

import graphopt
from graphopt import Package
from graphopt.families import Assumption, Case, Padding, meeting
from graphopt.interface import Interface
from graphopt.package import MANIFEST
from graphopt.pipeline import Edit
from graphopt.verify import EditVerifier
from tests.passes._canonical import Domain, Shape, canonical_decoder
from tests.passes._runs import Lowered

DENSE = Assumption("dense", "rows are dense", padding=("none", "right"), padded_past=False)


@pytest.mark.parametrize(
    ("padding", "padded_past", "largest", "allowed"),
    [
        ("none", False, 9, True),
        ("right", False, 9, True),
        ("left", False, 9, False),
        ("right", True, 9, False),
        ("none", False, 10, False),
    ],
)
def test_which_calls_meet_it(padding: Padding, padded_past: bool, largest: int, allowed: bool) -> None:
    assumed = replace(DENSE, below={"ids": 10})
    case = Case("a call", {"ids": np.asarray([[0, largest]])}, {}, padding, padded_past)

    assert assumed.allows(case) is allowed
    assert list(meeting([assumed, Assumption("words", "alone")], [case])) == [case] * allowed


@pytest.mark.parametrize(("assumes", "status"), [(True, "proven"), (False, "failed")])
def test_an_edit_is_checked_on_calls_that_meet_what_it_assumes(assumes: bool, status: str) -> None:
    """Dense attention refuses left padding, which is legal where nothing says that there is none."""
    shape = Shape(layers=1)
    made = Lowered(shape)
    passing = LowerAttention.configure({"mode": "dense"}).edits(made.model.graph, made.context)
    edit = next(passing)
    assert isinstance(edit, Edit)
    with EditVerifier(Interface.of(canonical_decoder(shape)), Domain(shape)) as verifier:
        found = verifier.check(
            made.model, edit, LowerAttention.contract, assumptions=edit.assumes if assumes else []
        )

    assert found.status == status
    assert ("query_seqlens" in found.reason) is not assumes


def test_a_package_is_compared_on_such_calls(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    source = tiny_model("llama")
    package = graphopt.optimize(
        source, tmp_path / "out", recipe="lossless", settings=["lower-attention.mode=dense"]
    )
    compared = {c.case for c in package.report().closing.metrics}

    assert package.report().closing.verdict == "passed"
    assert {"prefill", "prefill-right-padded", "chunk"} <= compared
    assert not {name for name in compared if "left" in name or name == "decode-right-padded"}
    (condition,) = package.manifest.conditions
    assert condition.padding == ("none", "right")
    assert condition in package.assumptions()


def test_a_package_from_before_has_them_in_words(tmp_path: Path) -> None:
    """Version 1 of graphopt.json told assumptions as texts alone, and still does."""
    (tmp_path / "model.onnx").touch()
    data = {
        "version": 1,
        "graphopt": "0.1.0",
        "source": "s",
        "task": "onnx",
        "family": None,
        "recipe": "lossless",
        "lossless": True,
        "target": {"name": "cpu"},
        "graphs": {"model": {"file": "model.onnx", "inputs": [], "outputs": []}},
        "assumptions": {"dense-attention": "rows are dense"},
    }
    (tmp_path / MANIFEST).write_text(json.dumps(data))

    assert Package.load(tmp_path).assumptions() == (Assumption("dense-attention", "rows are dense"),)
