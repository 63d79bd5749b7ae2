"""Which weights share their bytes."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from graphopt.ir import content_of, inside_bytes


def test_ranges_of_a_file_are_told_by_their_place(tmp_path: Path) -> None:
    def at(offset: int, *shape: int) -> ir.ExternalTensor:
        return ir.ExternalTensor(
            "data", offset, 16, ir.DataType.FLOAT, shape=ir.Shape(shape), name="w", base_dir=tmp_path
        )

    assert content_of(at(0, 4)) == content_of(at(0, 2, 2)) != content_of(at(16, 4))


def test_small_weights_stay_in_the_graph_beside_a_file() -> None:
    assert inside_bytes([1 << 20, 100, 4096]) == 100
    assert inside_bytes([8192, 100], shared=True) == 100
