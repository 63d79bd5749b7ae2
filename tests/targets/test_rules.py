"""What kernels demand beyond types is found before a session is opened, or at its first run."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import parse
from graphopt.plugins import registry
from graphopt.targets import Capabilities
from graphopt.testing import outputs, session


@pytest.fixture
def capabilities() -> Capabilities:
    return registry.targets()["cpu"]().capabilities()


def attention(size: int, *, rotary: bool = False, inputs: str = "") -> str:
    width = 3 * size
    return f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g (float[B, S, {width}] q, float[B, 1, P, {size}] pk, float[B, 1, P, {size}] pv, int32[B] n, int32 t,
           float[M, H] cos, float[M, H] sin, float[{size}] w, int32[B] lengths)
          => (float[B, S, {size}] y, float[B, 1, T, {size}] k, float[B, 1, T, {size}] v)
        {{
          y, k, v = com.microsoft.GroupQueryAttention
            <num_heads = 1, kv_num_heads = 1, do_rotary = {int(rotary)}>
            (q, , , pk, pv, n, t, cos, sin{inputs})
        }}
    """


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ("head-size", (8,), True),
        ("head-size", (20,), False),
        ("rotary-head-size", (8,), False),
        ("rotary-head-size", (24,), False),
        ("rotary-head-size", (32,), True),
        ("qk-norm", (), False),
        ("attention-bias", (), True),
        *(("matmul-nbits", (bits, block), True) for bits in (2, 4, 8) for block in (16, 32, 128, 256)),
        ("matmul-nbits", (3, 32), False),
        ("matmul-nbits", (4, 8), False),
        ("matmul-nbits", (4, 96), False),
        *(("matmul-nbits-float-zeros", (bits,), bits < 8) for bits in (2, 4, 8)),
        *(("matmul-nbits-g-idx", (bits,), bits < 8) for bits in (2, 4, 8)),
    ],
)
def test_sizes_the_runtime_takes(
    capabilities: Capabilities, rule: str, values: tuple[int, ...], expected: bool
) -> None:
    assert capabilities.accepts(rule, *values) is expected


def test_an_unknown_rule(capabilities: Capabilities) -> None:
    with pytest.raises(KeyError):
        capabilities.accepts("no-such-rule", 1)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (attention(32, rotary=True), None),
        (attention(24), None),
        (attention(24, rotary=True), "the kernel rotates no heads of 24"),
        (attention(20), "the kernel takes no heads of 20"),
        (attention(16, inputs=", , , , , , w, w"), "the CPU kernel takes no q_norm_weight and k_norm_weight"),
        (attention(16, inputs=", , , , , , , , lengths"), None),
    ],
    ids=["rotated", "not-rotated", "rotated-24", "size-20", "norms-inside", "lengths"],
)
def test_attention(capabilities: Capabilities, source: str, reason: str | None) -> None:
    found = capabilities.unsupported(parse(source))

    assert [one.reason for one in found] == ([reason] if reason else [])


@pytest.mark.parametrize(("bits", "block", "works"), [(4, 32, True), (4, 24, False), (3, 32, False)])
def test_matmul_nbits(capabilities: Capabilities, bits: int, block: int, works: bool) -> None:
    size = block * bits // 8
    found = capabilities.unsupported(
        parse(f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g (float[N, {2 * block}] x, uint8[16, 2, {size}] w, float[16, 2] s) => (float[N, 16] y)
        {{
          y = com.microsoft.MatMulNBits
            <K = {2 * block}, N = 16, bits = {bits}, block_size = {block}> (x, w, s)
        }}
    """)
    )

    expected = [] if works else [f"the kernel takes no {bits} bits in blocks of {block}"]
    assert [one.reason for one in found] == expected


FLOATS, PACKED, ORDER = "float[16, 2] z", "uint8[16, {}] z", "int32[64] g"


def product(bits: int, *more: str, level: int = 4) -> str:
    """A MatMulNBits with the inputs `more`, declared as text."""
    names = [""] * (more == (ORDER,)) + [text.split()[-1] for text in more]
    zeros = -(-2 * bits // 8)
    return f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g (float[N, 64] x, uint8[16, 2, {4 * bits}] w, float[16, 2] s{"".join(", " + m for m in more)})
          => (float[N, 16] y)
        {{
          y = com.microsoft.MatMulNBits
            <K = 64, N = 16, bits = {bits}, block_size = 32, accuracy_level = {level}>
            (x, w, s{"".join(", " + name for name in names)})
        }}
    """.replace("{}", str(zeros))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (product(8, PACKED), None),
        (product(4, FLOATS), None),
        (product(4, ORDER), None),
        (product(8, FLOATS), "the kernel takes no zero points in floats with 8 bits, only uint8"),
        (product(8, ORDER), "the kernel takes no g_idx with 8 bits"),
        (product(8, PACKED, ORDER), "the kernel takes no g_idx with 8 bits"),
    ],
)
def test_zero_points_and_orders_that_the_kernel_takes(
    capabilities: Capabilities, source: str, reason: str | None
) -> None:
    found = capabilities.unsupported(parse(source))

    assert [one.reason for one in found] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (product(8), None),
        (product(2, PACKED), None),
        (product(4, level=0), "with 4 bits at accuracy level 0 takes about three times as long"),
        (product(8, level=3), "with 8 bits at accuracy level 3 takes over a hundred times as long"),
        (product(2, level=0), "with 2 bits at accuracy level 0 takes over a hundred times as long"),
        (
            product(2).replace("block_size = 32", "block_size = 256").replace("K = 64", "K = 512"),
            "with 2 bits in blocks of 256 takes over a hundred times as long",
        ),
        (product(4, FLOATS), "zero points in floats takes tens to hundreds of times as long"),
        (product(4, ORDER), "g_idx takes tens to hundreds of times as long"),
        (product(4, PACKED, ORDER), "is wrong: onnxruntime ignores the zero points"),
    ],
)
def test_kernels_that_are_slow_or_wrong_are_told(
    capabilities: Capabilities, source: str, said: str | None
) -> None:
    found = capabilities.remarks(parse(source))

    assert len(found) == (said is not None)
    assert said is None or (said in found[0].text and found[0].node == "y/MatMulNBits")


def test_onnxruntime_ignores_packed_zero_points_beside_an_order() -> None:
    """When this fails, the remark about it can go."""
    model = parse(product(4, PACKED, ORDER))
    feeds = {
        "x": np.ones((1, 64), np.float32),
        "w": np.zeros((16, 2, 16), np.uint8),
        "s": np.ones((16, 2), np.float32),
        "g": np.repeat(np.arange(2, dtype=np.int32), 32),
    }
    runs = [outputs(session(model), feeds | {"z": np.full((16, 1), z, np.uint8)})["y"] for z in (0x00, 0x11)]
    np.testing.assert_array_equal(*runs)
