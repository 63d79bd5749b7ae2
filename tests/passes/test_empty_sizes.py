"""Sizes that may be zero, and queries that may see nothing, in graphs of unknown meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import graphopt
from graphopt.errors import BadInput
from graphopt.families import Assumption
from graphopt.ir import infer_types, parse, save_model
from graphopt.pipeline import Context, RunResult
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import outputs, session
from tests.passes._canonical import Domain, Shape, canonical_decoder

ATTENTION = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,2,S,4] q, float[B,2,S,4] k, float[B,2,S,4] v, bool[B,1,S,S] seen, float[B,1,1,S] tokens)
=> (float[B,2,S,4] y)
<float lowest = {-3.4028234663852886e38}, float zero = {0}, float one = {1}, float slight = {-1e4}>
{
  kt = Transpose<perm = [0, 1, 3, 2]>(k)
  s = MatMul(q, kt)
  %s
  p = Softmax<axis = 3>(m)
  y = MatMul(p, v)
}
"""
MASKS = {
    "added": "w = Where(seen, zero, lowest)  m = Add(s, w)",
    "put in, and added": "a = Where(seen, s, slight)  m = Add(a, tokens)",
    "put in after another is added": "a = Add(s, tokens)  m = Where(seen, a, lowest)",
    "from tokens": "h = Sub(one, tokens)  w = Mul(h, lowest)  m = Add(s, w)",
}


def ran(model: ir.Model, *steps: str) -> RunResult:
    infer_types(model)
    return run_recipe(model, Recipe("test", "", Budget(), tuple(map(Step, steps))), Context(model))


def feeds(batch: int = 2, length: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((batch, 2, length, 4), np.float32) * 4 for _ in range(3))
    seen = rng.random((batch, 1, length, length)) < 0.5
    seen[:, :, :1] = False
    tokens = np.ones((batch, 1, 1, length), np.float32)
    tokens[:1] = 0
    return {"q": q, "k": k, "v": v, "seen": seen, "tokens": tokens}


@pytest.mark.parametrize("mask", MASKS)
def test_a_query_that_sees_nothing_sees_every_key_alike(mask: str) -> None:
    text = ATTENTION % MASKS[mask]
    lowered = parse(text)
    assert [r.applied for r in ran(lowered, "raise-attention").records] == [1]
    assert [n.op_type for n in lowered.graph][-1] == "Attention"
    given = feeds()
    if mask == "put in, and added":
        given["tokens"] *= -np.finfo(np.float32).max
    expected = outputs(session(parse(text)), given)["y"]
    found = outputs(session(lowered), given)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    if mask in ("added", "from tokens"):
        np.testing.assert_allclose(expected[0, :, 0], given["v"][0].mean(1), atol=1e-6)


def test_a_package_refuses_the_empty_call_that_it_does_not_take(tmp_path: Path) -> None:
    save_model(parse(ATTENTION % MASKS["added"]), tmp_path / "net.onnx")
    np.savez(tmp_path / "inputs.npz", **feeds())
    package = graphopt.optimize(
        tmp_path / "net.onnx", tmp_path / "out", recipe="lossless", inputs=tmp_path / "inputs.npz"
    )
    assert package.assumptions() == (
        Assumption("not-empty:B, S", "B, S: none of these sizes is zero", not_empty=("B", "S")),
    )
    assert package.run(feeds(1, 4))["y"].shape == (1, 2, 4, 4)
    with pytest.raises(BadInput, match="takes no empty inputs: the size B is 0"):
        package.run(feeds(0, 4))


FOUND = """<ir_version: 10, opset_import: ["" : 23]>
g (float[N,8] boxes, float[8,24] w, bool[N] kept) => (float[H,4] y)
<int64[1] axis = {1}, int64[4] heads = {0, 0, 3, 8}, int64[2] flat = {-1, 4}, float scale = {0.5}>
{
  chosen = Compress<axis = 0>(boxes, kept)
  rows = MatMul(chosen, w)
  batch = Unsqueeze(rows, axis)
  apart = Reshape(batch, heads)
  q = Transpose<perm = [0, 2, 1, 3]>(apart)
  kt = Transpose<perm = [0, 2, 3, 1]>(apart)
  s = MatMul(q, kt)
  m = Mul(s, scale)
  p = Softmax<axis = 3>(m)
  a = MatMul(p, q)
  y = Reshape(a, flat)
}
"""


def test_a_detector_that_finds_nothing_still_runs() -> None:
    lowered = parse(FOUND)
    (record,) = ran(lowered, "raise-attention").records
    assert [miss.reason for miss in record.near_misses] == [
        "axis 0 of 'q' is as long as values say, and attention of nothing fails"
    ]
    rng = np.random.default_rng(0)
    given: Mapping[str, Any] = {
        "boxes": rng.standard_normal((5, 8), np.float32),
        "w": rng.standard_normal((8, 24), np.float32),
        "kept": np.zeros(5, np.bool_),
    }
    assert outputs(session(lowered), given)["y"].shape == (0, 4)


RESHAPED = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,4] x, int64[N] shape) => (%s)
<int64[1] four = {4}, int64[1] two = {2}, int64[1] any = {-1}, float[2] ones = {1, 1}>
{
  b = Shape<start = 0, end = 1>(x)
  s = Shape<start = 1, end = 2>(x)
  twice = Mul(s, two)
  %s
}
"""


@pytest.mark.parametrize(
    ("output", "statement", "sizes", "rewritten"),
    [
        ("float[B,S,2,2] y", "t = Concat<axis = 0>(b, s, two, two) y = Reshape(x, t)", (0, 3), True),
        ("float[B,S,2,2] y", "t = Concat<axis = 0>(b, s, two, two) y = Reshape(x, t)", (2, 0), True),
        ("float[B,T,2] y", "t = Concat<axis = 0>(b, twice, two) y = Reshape(x, t)", (0, 3), False),
        ("float[B,T,2] y", "t = Concat<axis = 0>(b, any, two) y = Reshape(x, t)", (2, 3), True),
        ("float[2,12] y", "y = Reshape(x, shape)", (3, 2), False),
    ],
)
def test_a_shape_is_constant_where_it_stays_right(
    output: str, statement: str, sizes: tuple[int, int], rewritten: bool
) -> None:
    text = RESHAPED % (output, statement)
    simpler = parse(text)
    (record,) = ran(simpler, "simplify-shapes").records
    assert (record.applied > 0) is rewritten
    given = {"x": np.ones((*sizes, 4), np.float32), "shape": np.asarray([4, -1])}
    expected, found = (outputs(session(m), given)["y"] for m in (parse(text), simpler))
    assert np.array_equal(expected, found)


@pytest.mark.parametrize("known", [True, False], ids=["a family", "unknown meaning"])
def test_lowered_attention_assumes_what_no_family_says(known: bool) -> None:
    shape = Shape(layers=1)
    model = canonical_decoder(shape)
    context = Context(model, domain=Domain(shape) if known else None)
    run_recipe(model, Recipe("test", "", Budget(), (Step("lower-attention"),)), context)
    assert "GroupQueryAttention" in {node.op_type for node in model.graph}
    assumed = {} if known else {"not-empty:batch, sequence": ("batch", "sequence"), "padded-rows": ()}
    assert {key: a.not_empty for key, a in context.assumptions.items()} == assumed


UNKNOWN = """<ir_version: 10, opset_import: ["" : 23]>
g (float[B,S,8] x) => (float[B,2,S,4] y)
<int64[3] ones = {1, 1, 1}, int64[4] heads = {0, 0, 2, 4}>
{
  sizes = Shape(x)
  same = Mul(sizes, ones)
  again = Reshape(x, same)
  apart = Reshape(again, heads)
  q = Transpose<perm = [0, 2, 1, 3]>(apart)
  kt = Transpose<perm = [0, 2, 3, 1]>(apart)
  s = MatMul(q, kt)
  p = Softmax<axis = 3>(s)
  y = MatMul(p, q)
}
"""


def test_sizes_that_nobody_follows_are_those_of_inputs_behind_them() -> None:
    model = parse(UNKNOWN)
    infer_types(model)
    context = Context(model)
    run_recipe(model, Recipe("test", "", Budget(), (Step("raise-attention"),)), context)
    (assumed,) = context.assumptions.values()
    assert {"B", "S"} <= set(assumed.not_empty)
