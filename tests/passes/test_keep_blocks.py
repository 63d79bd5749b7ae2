"""keep-blocks beside the products and lookups of the weights it keeps as they came."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes import keep_blocks

from graphopt.ir import Concatenated, Expr, InMemory, LazyTensor, Taken, Transposed
from graphopt.pipeline import Context, Mismatch, RunHooks
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing import in_blocks
from graphopt.verify import EditVerifier
from tests.passes._compressed import PRODUCT, TIED, Compressed, normal
from tests.passes._compressed import built as built_plain

NAME = "keep-blocks"


def built(source: str, weights: Mapping[str, Expr], **sizes: int) -> ir.Model:
    model = built_plain(source, {}, **sizes)
    for name, expr in weights.items():
        model.graph.initializers[name].const_value = LazyTensor(expr, name=name)
    return model


def off(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference as a share of the largest value."""
    return float(np.abs(expected - got).max() / np.abs(expected).max())


@pytest.mark.parametrize(("level", "bound"), [(0, 2e-6), (4, 1e-2)])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("n", "k", "block"), [(48, 96, 32), (33, 200, 128), (16, 24, 16)])
def test_the_kernel_multiplies_by_what_the_blocks_stand_for(
    tmp_path: Path, n: int, k: int, block: int, bits: int, level: int, bound: float
) -> None:
    w = in_blocks(normal(k, n), bits, block)
    made = Compressed(built(PRODUCT, {"w": w}, n=n, k=k), NAME, tmp_path, accuracy_level=level)

    assert made.operators == {"MatMulNBits": 1}
    for x in (normal(2, 3, k, seed=1), normal(1, 1, k, seed=2)):
        (y,) = made.run(x=x)
        assert off(x @ w.read(), y) < bound


@pytest.mark.parametrize("bits", [4, 8])
def test_a_tied_table_is_stored_once_and_looked_up_exactly(tmp_path: Path, bits: int) -> None:
    w = Transposed(in_blocks(normal(96, 256), bits, 32), (1, 0))
    ids, h = np.array([[3, 0, 255], [7, 7, 1]]), normal(2, 3, 96, seed=1)
    made = Compressed(built(TIED, {"w": w}, n=256, k=96), NAME, tmp_path, accuracy_level=0)

    x, logits = made.run(ids=ids, h=h)

    np.testing.assert_array_equal(x, w.read()[ids])
    assert off(h @ w.read().T, logits) < 2e-6
    assert made.operators == {"GatherBlockQuantized": 1, "MatMulNBits": 1}
    assert set(made.model.graph.initializers) == {f"w/q{bits}", "w/scales", "w/zeros", f"w/q{bits}/rows"}
    assert made.stored == 256 * 96 * bits // 8


def test_the_bytes_are_those_of_the_source(tmp_path: Path) -> None:
    parts = [in_blocks(normal(64, n, seed=n), 4, 32) for n in (8, 4)]
    model = built(PRODUCT, {"w": Concatenated(tuple(parts), 1)}, n=12, k=64)
    made = Compressed(model, NAME, tmp_path)

    for name, field in (("w/q4", "packed"), ("w/scales", "scales"), ("w/zeros", "zeros")):
        held = [getattr(part.sources[0], field).read() for part in parts]
        np.testing.assert_array_equal(made.initializer(name), np.concatenate(held))


def test_columns_in_another_order_are_taken_in_that_of_the_blocks(tmp_path: Path) -> None:
    parts = [in_blocks(normal(64, n, seed=n), 4, 32) for n in (8, 4)]
    order = np.random.default_rng(0).permutation(64)
    taken = [Taken(Transposed(part, (1, 0)), InMemory(order), 1) for part in parts]
    w = Concatenated(tuple(Transposed(part, (1, 0)) for part in taken), 1)
    made = Compressed(built(PRODUCT, {"w": w}, n=12, k=64), NAME, tmp_path, accuracy_level=0)
    x = normal(2, 3, 64, seed=1)

    assert made.operators == {"Gather": 1, "MatMulNBits": 1}
    np.testing.assert_array_equal(w.read(), np.concatenate([p.read() for p in parts], 1)[order])
    assert off(x @ w.read(), made.run(x=x)[0]) < 2e-6


@pytest.mark.parametrize(
    ("w", "reason"),
    [
        (in_blocks(normal(64, 8), 4, 8), "blocks of 8, and kernels take 16 to 256"),
        (
            Concatenated((in_blocks(normal(64, 4), 4, 32), in_blocks(normal(64, 4), 8, 32)), 1),
            "rows of 4 bits in blocks of 32, 8 bits in blocks of 32",
        ),
    ],
)
def test_what_kernels_do_not_take_stays_with_the_reason(tmp_path: Path, w: Expr, reason: str) -> None:
    made = Compressed(built(PRODUCT, {"w": w}, n=8, k=64), NAME, tmp_path)

    assert made.operators == {"MatMul": 1}
    assert any(reason in said for said in made.reasons)


def test_a_table_of_which_rows_end_within_a_block_stays(tmp_path: Path) -> None:
    w = Transposed(in_blocks(normal(40, 64), 4, 16), (1, 0))
    made = Compressed(built(TIED, {"w": w}, n=64, k=40), NAME, tmp_path)

    assert made.operators == {"Gather": 1, "MatMulNBits": 1}
    assert "rows of 40 are not a multiple of their blocks of 16" in made.reasons


@pytest.mark.parametrize("requantize", [False, True])
def test_blocks_are_rounded_again_only_when_asked(tmp_path: Path, requantize: bool) -> None:
    options: dict[str, Any] = {"requantize": True} if requantize else {}
    w = in_blocks(normal(64, 8), 4, 32)
    made = Compressed(built(PRODUCT, {"w": w}, n=8, k=64), "quantize-weights", tmp_path, **options)

    assert made.operators == {"MatMulNBits" if requantize else "MatMul": 1}
    assert requantize or any("came in blocks" in said for said in made.reasons)


@pytest.mark.parametrize("damage", ["none", "zero points", "nibbles", "scales"])
def test_an_edit_with_wrong_bytes_is_found(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """What is verified is the product with what the source's blocks stand for, not with what was packed."""
    right = keep_blocks.ordered_blocks_of

    def wrong(expr: Expr) -> Any:
        found: Any = right(expr)[0]  # type: ignore[index]
        packed, scales, zeros = (InMemory(e.read().copy()) for e in found.sources)
        if damage == "zero points":
            zeros = InMemory(zeros.read() ^ np.uint8(0x11))
        elif damage == "nibbles":
            packed = InMemory(packed.read() << 4 | packed.read() >> 4)
        elif damage == "scales":
            scales = InMemory(scales.read().T.copy().reshape(scales.shape))
        return type(found)(packed, scales, zeros, 4, 32, 64), None

    monkeypatch.setattr(keep_blocks, "ordered_blocks_of", wrong)
    model = built(PRODUCT, {"w": in_blocks(normal(64, 64), 4, 32)}, n=64, k=64)
    recipe = Recipe("test", "", Budget(), (Step(NAME),))
    expected: AbstractContextManager[Any]
    expected = nullcontext() if damage == "none" else pytest.raises(Mismatch, match="sqnr")
    with EditVerifier() as verifier, expected:
        run_recipe(model, recipe, Context(model), hooks=RunHooks(verifier))
