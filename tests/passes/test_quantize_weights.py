"""quantize-weights beside the products and lookups of the weights it stands for."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from graphopt_passes import quantize_weights
from graphopt_passes._forms import Form
from graphopt_passes._nbits import Packed, levels_of, pack_levels, quantize_rows, unpacked, zero_points_of

from graphopt.calibrate import CalibrationData
from graphopt.ir import Cast, Concatenated, FileRange, LazyTensor, Transposed
from graphopt.pipeline import Context, Mismatch, RunHooks
from graphopt.plugins import load_recipe, run_recipe
from graphopt.plugins.registry import passes
from graphopt.recipes import Budget, OptimizeOptions, Recipe, Step
from graphopt.verify import EditVerifier
from tests.passes._compressed import PRODUCT, TIED, Compressed, built, normal

NAME = "quantize-weights"


def off(expected: np.ndarray, got: np.ndarray) -> float:
    """The largest difference as a share of the largest value."""
    return float(np.abs(expected - got).max() / np.abs(expected).max())


def options_of(form: Form, **more: object) -> dict[str, object]:
    zeros = "always" if form.zeros else "never"
    return {"bits": form.bits, "block_size": form.block, "zero_points": zeros, **more}


def rounded(rows: np.ndarray, form: Form) -> np.ndarray:
    packed = quantize_rows(rows, form.bits, form.block, zeros=form.zeros)
    return np.asarray(unpacked(packed, form.bits, rows.shape[1]))


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(("level", "bound"), [(0, 2e-6), (4, 1e-2)])
@pytest.mark.parametrize("zeros", ["", "z"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("n", "k", "block"), [(48, 96, 32), (33, 200, 128), (16, 24, 16)])
def test_the_kernel_multiplies_by_the_rounded_weight(
    tmp_path: Path,
    n: int,
    k: int,
    block: int,
    bits: int,
    zeros: str,
    level: int,
    bound: float,
    optimized: bool,
) -> None:
    w, form = normal(k, n), Form.parse(f"{bits}/{block}{zeros}")
    options = options_of(form, accuracy_level=level)
    made = Compressed(built(PRODUCT, {"w": w}, n=n, k=k), NAME, tmp_path, **options)
    stands_for = rounded(np.ascontiguousarray(w.T), form)

    for x in (normal(2, 3, k, seed=1), normal(1, 1, k, seed=2)):
        (y,) = made.run(optimized=optimized, x=x)

        assert off(x @ stands_for.T, y) < bound
        assert off(x @ w, y) > 2 * bound or bits == 8


@pytest.mark.parametrize(("bits", "at_least"), [(2, 6.5), (4, 18), (8, 38)])
def test_the_damage_is_that_of_so_many_bits(tmp_path: Path, bits: int, at_least: float) -> None:
    w, x = normal(512, 64), normal(4, 32, 512, seed=1)
    made = Compressed(built(PRODUCT, {"w": w}, n=64, k=512), NAME, tmp_path, bits=bits)

    noise = made.run(x=x)[0] - x @ w

    assert at_least < 10 * np.log10(np.mean((x @ w) ** 2) / np.mean(noise**2)) < at_least + 6


@pytest.mark.parametrize("text", ["2/32", "4/32", "8/32", "2/32z", "4/32z", "8/64z", "4/128z"])
def test_a_tied_embedding_is_stored_once_and_looked_up_exactly(tmp_path: Path, text: str) -> None:
    w, ids, h = normal(4096, 128), np.array([[3, 0, 4095], [7, 7, 1]]), normal(2, 3, 128, seed=1)
    model, form = built(TIED, {"w": w}, n=4096, k=128), Form.parse(text)
    made = Compressed(model, NAME, tmp_path, **options_of(form, accuracy_level=0))

    x, logits = made.run(ids=ids, h=h)

    np.testing.assert_array_equal(x, rounded(w, form)[ids])
    assert off(h @ rounded(w, form).T, logits) < 2e-6
    reshaped = {} if form.zeros else {"Reshape": 1}
    assert made.operators == {"GatherBlockQuantized": 1, "MatMulNBits": 1, **reshaped}
    blocks = 128 // form.block
    zeros = 4096 * -(-blocks * form.bits // 8) if form.zeros else 0
    assert made.stored == w.size * form.bits // 8 + 4 * 4096 * blocks + zeros


HALF = TIED.replace("float[", "float16[")


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_half_precision_are_packed_and_the_rest_stays(
    tmp_path: Path, bits: int, optimized: bool
) -> None:
    w = normal(256, 128).astype(np.float16)
    h, ids = normal(2, 3, 128, seed=1).astype(np.float16), np.array([[3, 0, 255], [7, 7, 1]])
    model = built(HALF, {"w": w}, n=256, k=128)
    made = Compressed(model, NAME, tmp_path, bits=bits, block_size=32, accuracy_level=0)
    stands_for = rounded(w.astype(np.float32), Form(bits, 32))

    x, logits = made.run(optimized=optimized, ids=ids, h=h)

    np.testing.assert_array_equal(x, stands_for[ids].astype(np.float16))
    assert logits.dtype == np.float16
    assert off(h.astype(np.float32) @ stands_for.T, logits) < 1e-3
    assert made.stored < w.size * bits // 8 + 4 * w.size // 32 + 100


UNTIED = """<ir_version: 10, opset_import: ["" : 23]>
g (int64[B,S] ids) => (float[B,S,%(n)d] logits)
<float[%(n)d,%(k)d] e = ["location": "absent"], float[%(k)d,%(n)d] w = ["location": "absent"]>
{ x = Gather(e, ids) logits = MatMul(x, w) }"""


def test_embeddings_are_packed_where_they_are_tied_or_where_told(tmp_path: Path) -> None:
    weights = {"e": normal(64, 32), "w": normal(32, 64, seed=1)}

    def operators(source: str, embedding: str) -> set[str]:
        given = weights if source == UNTIED else {"w": weights["e"]}
        model = built(source, given, n=64, k=32)
        return set(Compressed(model, NAME, tmp_path, embedding=embedding, block_size=32).operators)

    assert operators(UNTIED, "tied") == {"Gather", "MatMulNBits"}
    assert operators(UNTIED, "all") == {"GatherBlockQuantized", "Reshape", "MatMulNBits"}
    assert operators(TIED, "keep") == {"Gather", "MatMulNBits"}


@pytest.mark.parametrize(("bits", "width", "block"), [(8, 128, 128), (4, 96, 32), (2, 320, 64)])
def test_a_table_alone_has_bits_of_its_own(tmp_path: Path, bits: int, width: int, block: int) -> None:
    w, ids = normal(256, width), np.array([[3, 0, 255], [7, 7, 1]])
    source = """<ir_version: 10, opset_import: ["" : 23]>
    g (int64[B,S] ids) => (float[B,S,%(k)d] x) <float[%(n)d,%(k)d] w = ["location": "absent"]>
    { x = Gather(w, ids) }"""
    model = built(source, {"w": w}, n=256, k=width)
    made = Compressed(model, NAME, tmp_path, bits=4, embedding="all", table_bits=bits)

    (x,) = made.run(ids=ids)

    np.testing.assert_array_equal(x, rounded(w, Form(bits, block))[ids])


@pytest.mark.parametrize(("recipe", "bits"), [("int4", 8), ("int8", 8), ("int4-fast", 0)])
def test_recipes_pack_tables_that_no_head_shares(recipe: str, bits: int) -> None:
    """In 8 bits, which loses nothing to speak of; int4-fast leaves them as they are, as it always did."""
    (step,) = (step for step in load_recipe(recipe).expanded(()).steps if step.name == NAME)
    model = built(UNTIED, {"e": normal(256, 128), "w": normal(128, 256, seed=1)}, n=256, k=128)

    run_recipe(model, Recipe("test", "", Budget(), (step,)), Context(model))

    lookups = [
        node.attributes["bits"].value for node in model.graph if node.op_type == "GatherBlockQuantized"
    ]
    assert lookups == [bits] * bool(bits)


def test_a_table_that_is_not_finite_stays(tmp_path: Path) -> None:
    source = """<ir_version: 10, opset_import: ["" : 23]>
    g (int64[S] ids) => (float[S,64] x) <float[256,64] w = ["location": "absent"]> { x = Gather(w, ids) }"""
    w = normal(256, 64)
    w[5, 5] = np.inf
    made = Compressed(built(source, {"w": w}), NAME, tmp_path, embedding="all")

    assert made.reasons == ["weight w has entries that are not finite"]


@pytest.mark.parametrize(
    ("ids", "assumed"),
    [
        ("ids", [{"ids": 64}]),
        ("flat", [{"ids": 64}]),
        ("next", []),
    ],
)
def test_ids_of_a_caller_are_assumed_to_have_rows(
    tmp_path: Path, ids: str, assumed: list[dict[str, int]]
) -> None:
    source = """<ir_version: 10, opset_import: ["" : 23]>
    g (int32[B,S] ids) => (float[M,%(k)d] x)
    <float[%(n)d,%(k)d] e = ["location": "absent"], int64[1] all = {-1}, int64 one = {1}>
    { wide = Cast<to = 7>(ids) flat = Reshape(wide, all) next = Add(flat, one) x = Gather(e, {ids}) }"""
    model = built(source.replace("{ids}", ids), {"e": normal(64, 32)}, n=64, k=32)
    made = Compressed(model, NAME, tmp_path, embedding="all", block_size=32)

    assert made.operators["GatherBlockQuantized"] == 1
    assert [a.below for a in made.assumptions] == assumed


def test_an_embedding_that_fills_no_whole_number_of_blocks_stays(tmp_path: Path) -> None:
    made = Compressed(built(TIED, {"w": normal(64, 40)}, n=64, k=40), NAME, tmp_path, block_size=32)

    assert made.operators == {"Gather": 1, "MatMulNBits": 1}
    assert "rows of 40 are not a multiple of the block size" in made.reasons


def test_a_weight_that_two_products_share_is_packed_once(tmp_path: Path) -> None:
    source = """<ir_version: 10, opset_import: ["" : 23]>
    g (float[B,%(k)d] x, float[B,%(k)d] z) => (float[B,%(n)d] y, float[B,%(n)d] v)
    <float[%(k)d,%(n)d] w = ["location": "absent"]>
    { y = MatMul(x, w) v = MatMul(z, w) }"""
    made = Compressed(built(source, {"w": normal(64, 128)}, n=128, k=64), NAME, tmp_path, block_size=32)

    assert made.operators == {"MatMulNBits": 2}
    assert set(made.model.graph.initializers) == {"w/q4", "w/scales"}


@pytest.mark.parametrize(("width", "block"), [(40, 32), (16, 16), (5, 16), (300, 256)])
def test_a_block_is_no_longer_than_the_weight_is_wide(tmp_path: Path, width: int, block: int) -> None:
    model = built(PRODUCT, {"w": normal(width, 8)}, n=8, k=width)
    made = Compressed(model, NAME, tmp_path, block_size=256)

    assert next(iter(made.model.graph)).attributes["block_size"].value == block


def test_a_packed_projection_is_read_from_the_checkpoint_as_it_lies(tmp_path: Path) -> None:
    """What pack-qkv leaves: transposed ranges of a bf16 file side by side."""
    stored = normal(96, 64).astype(ml_dtypes.bfloat16)
    (tmp_path / "checkpoint").write_bytes(stored.tobytes())
    parts = tuple(
        Transposed(
            Cast(
                FileRange(tmp_path / "checkpoint", first * 128, rows * 128, ir.DataType.BFLOAT16, (rows, 64)),
                ir.DataType.FLOAT,
            ),
            (1, 0),
        )
        for first, rows in ((0, 64), (64, 16), (80, 16))
    )
    model = built(PRODUCT, {}, n=96, k=64)
    model.graph.initializers["w"].const_value = LazyTensor(Concatenated(parts, 1))
    made = Compressed(model, NAME, tmp_path, block_size=32)

    expected = quantize_rows(stored.astype(np.float32), 4, 32)
    np.testing.assert_array_equal(made.initializer("w/q4"), expected.weight)
    np.testing.assert_array_equal(made.initializer("w/scales"), expected.scales)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    w = normal(64, 32)
    w[5, 5] = value
    made = Compressed(built(PRODUCT, {"w": w}, n=32, k=64), NAME, tmp_path)

    assert made.reasons == ["weight w has entries that are not finite"]
    assert made.operators == {"MatMul": 1}


def test_a_weight_that_a_caller_may_replace_stays(tmp_path: Path) -> None:
    source = """<ir_version: 10, opset_import: ["" : 23]>
    g (float[B,%(k)d] x, float[%(k)d,%(n)d] w) => (float[B,%(n)d] y)
    <float[%(k)d,%(n)d] w = ["location": "absent"]>
    { y = MatMul(x, w) }"""
    made = Compressed(built(source, {"w": normal(64, 128)}, n=128, k=64), NAME, tmp_path)

    assert made.reasons == ["its second operand is not a constant"]


@pytest.mark.parametrize(
    ("options", "quantized"),
    [
        ({}, {"layer.0.up", "layer.0.down", "head"}),
        ({"exclude": "head"}, {"layer.0.up", "layer.0.down"}),
        ({"exclude": "*.up, head"}, {"layer.0.down"}),
        ({"include": "layer.*"}, {"layer.0.up", "layer.0.down"}),
        ({"include": "*.up,*.down", "exclude": "*down"}, {"layer.0.up"}),
        ({"smallest": 2000}, {"head"}),
    ],
)
def test_weights_are_chosen_by_name_and_size(
    tmp_path: Path, options: dict[str, object], quantized: set[str]
) -> None:
    source = """<ir_version: 10, opset_import: ["" : 23]>
    g (float[B,32] x) => (float[B,64] y)
    <float[32,48] up = ["location": "absent"], float[48,32] down = ["location": "absent"],
     float[32,64] head = ["location": "absent"]>
    { a = MatMul(x, up) b = MatMul(a, down) y = MatMul(b, head) }"""
    weights = {"up": normal(32, 48), "down": normal(48, 32), "head": normal(32, 64)}
    model = built(source, weights)
    for name in ("up", "down"):
        model.graph.initializers[name].name = f"layer.0.{name}"

    made = Compressed(model, NAME, tmp_path, **options)

    names = set(made.model.graph.initializers)
    assert {name.removesuffix("/scales") for name in names if name.endswith("/scales")} == quantized


PRODUCTS = {
    "gemm": ("y = Gemm(x, w, b)", (64, 48)),
    "turned gemm": ("y = Gemm<transB = 1>(x, w, b)", (48, 64)),
    "transposed": ("t = Transpose<perm = [1, 0]>(w) y = MatMul(x, t)", (48, 64)),
    "convolution": ("y = Conv(x, w, b)", (48, 64, 1)),
}


@pytest.mark.parametrize("rounding", ["nearest", "gptq", "learned"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_every_product_is_rounded_as_its_rows_are(product: str, rounding: str) -> None:
    """Gemm, transposed and 1-element convolutions give the bytes that MatMul by the same rows gives."""
    text, shape = PRODUCTS[product]
    is_conv = product == "convolution"

    def packed(text: str, w: np.ndarray, *, is_conv: bool) -> tuple[np.ndarray, np.ndarray]:
        x, y = ("float[B,64,5] x", "float[B,48,5] y") if is_conv else ("float[B,64] x", "float[B,48] y")
        sizes = ",".join(map(str, w.shape))
        model = built(
            f"""<ir_version: 10, opset_import: ["" : 23]>
            g ({x}) => ({y}) <float[{sizes}] w = ["location": "absent"], float[48] b = ["location": "absent"]>
            {{ {text} }}""",
            {"w": w, "b": normal(48, seed=5)},
        )
        calls = [normal(40, 64, seed=seed) * np.geomspace(1, 0.1, 64, dtype=np.float32) for seed in range(6)]
        if is_conv:
            calls = [np.ascontiguousarray(c.reshape(8, 5, 64).transpose(0, 2, 1)) for c in calls]
        data = CalibrationData("test", "digest", tuple({"x": c} for c in calls), 240)
        steps = [
            Step("unfold-conv", {"smallest": 1}),
            Step(NAME, {"smallest": 1, "block_size": 32, "rounding": rounding, "steps": 3}),
        ]
        context = Context(model, calibration=data)
        run_recipe(model, Recipe("test", "", Budget(), tuple(steps)), context)
        assert context.notes == ["calibrated on test: 240 tokens"] * (rounding != "nearest")
        assert "MatMulNBits" in {node.op_type for node in model.graph}
        held = [model.graph.initializers[f"w/{part}"].const_value for part in ("q4", "scales")]
        return held[0].numpy(), held[1].numpy()

    w = normal(*shape)
    rows = w.reshape(48, 64) if shape[0] == 48 else w.T

    got, expected = packed(text, w, is_conv=is_conv), packed("y = MatMul(x, w)", rows.T.copy(), is_conv=False)

    if rounding == "nearest":
        np.testing.assert_array_equal(got[0], expected[0])
    assert (got[0] == expected[0]).mean() > 0.99
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-3)


def test_a_folded_transpose_leaves_a_weight_its_name() -> None:
    """What a checkpoint calls a weight is what chooses it, also as exporters turn it: head = Transpose(w)."""
    model = built(TIED, {"w": normal(64, 128)}, n=64, k=128)
    steps = [Step("fold-constants", {}), Step(NAME, {"smallest": 1, "exclude": "w"})]

    folded, packed = run_recipe(model, Recipe("test", "", Budget(), tuple(steps)), Context(model)).records

    assert folded.applied == 1
    assert packed.near_misses[0].reason == "weight w is left out by name"
    assert [node.op_type for node in model.graph] == ["Gather", "MatMul"]


def test_what_is_planned_for_a_weight_goes_before_the_options() -> None:
    model = built(PRODUCT, {"w": normal(128, 64)}, n=64, k=128)
    recipe = Recipe("test", "", Budget(), (Step(NAME, {"smallest": 1}),))
    run_recipe(model, recipe, Context(model, decisions={"plan-bits": {"w": "2/64z", "v": "8/32"}}))

    (node,) = model.graph
    assert (node.attributes["bits"].value, node.attributes["block_size"].value) == (2, 64)
    assert set(model.graph.initializers) == {"w/q2", "w/scales", "w/zeros"}


@pytest.mark.parametrize(("shift", "zeros"), [(0.0, False), (2.0, True)])
def test_zero_points_are_taken_where_they_pay(shift: float, zeros: bool) -> None:
    """Of weights about zero they lower the error by less than their bits are worth."""
    model = built(PRODUCT, {"w": normal(128, 64) + np.float32(shift)}, n=64, k=128)
    recipe = Recipe(
        "test", "", Budget(), (Step(NAME, {"smallest": 1, "zero_points": "auto", "block_size": 32}),)
    )
    context = Context(model)
    run_recipe(model, recipe, context)

    assert ("w/zeros" in model.graph.initializers) == zeros
    assert list(context.decisions.values()) == [zeros]


def other_zeros(packed: Packed, bits: int) -> Packed:
    levels = levels_of(packed, bits).reshape(-1, levels_of(packed, bits).shape[-1]).T
    return pack_levels(levels, packed.scales, bits, zero_points_of(packed, bits) ^ 1)


SPOILED = {
    "zero points": lambda packed: other_zeros(packed, 4),
    "nibbles": lambda packed: replace(packed, weight=packed.weight << 4 | packed.weight >> 4),
    "scales": lambda packed: replace(packed, scales=packed.scales.T.reshape(packed.scales.shape)),
    "blocks": lambda packed: replace(packed, weight=np.ascontiguousarray(packed.weight[:, ::-1])),
}


@pytest.mark.parametrize("what", [None, *SPOILED])
def test_bytes_in_another_order_are_refused(monkeypatch: pytest.MonkeyPatch, what: str | None) -> None:
    weight = normal(128, 64) * np.geomspace(0.1, 10, 128, dtype=np.float32)[:, None]
    model = built(PRODUCT, {"w": weight}, n=64, k=128)
    recipe = Recipe("test", "", Budget(), (Step(NAME, options_of(Form(4, 32, True), smallest=1)),))
    honest = quantize_weights.quantized_tiles
    spoil = SPOILED.get(what or "", lambda packed: packed)
    monkeypatch.setattr(quantize_weights, "quantized_tiles", lambda *a, **k: map(spoil, honest(*a, **k)))

    with EditVerifier() as verifier, contextlib.nullcontext() if what is None else pytest.raises(Mismatch):
        run_recipe(model, recipe, Context(model), OptimizeOptions(), RunHooks(verifier=verifier))


def test_the_defaults_are_what_was_measured() -> None:
    """The options' defaults are what the recipes and their budgets were measured with."""
    assert passes()[NAME].configure({}).resolved() == {
        "bits": 4,
        "block_size": 128,
        "zero_points": "never",
        "rounding": "nearest",
        "sweeps": 2,
        "steps": 480,
        "own_text": 0,
        "accuracy_level": 4,
        "search": True,
        "bias_correction": False,
        "include": "*",
        "exclude": "",
        "smallest": 4096,
        "embedding": "tied",
        "table_bits": 8,
        "requantize": False,
    }
