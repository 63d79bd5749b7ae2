"""What kernels demand beyond types is found before a session is opened, or at its first run."""

from __future__ import annotations

import pytest

from graphopt import registry
from graphopt.ir import parse
from graphopt.targets import Capabilities


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
        *(("matmul-nbits", (bits, block), True) for bits in (2, 4, 8) for block in (16, 32, 128, 256)),
        ("matmul-nbits", (3, 32), False),
        ("matmul-nbits", (4, 8), False),
        ("matmul-nbits", (4, 96), False),
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
