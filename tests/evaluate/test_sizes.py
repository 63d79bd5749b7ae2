"""Sizes that were said to be legal for an .onnx file are in its package, and whoever runs it uses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt import BadInput, Package, optimize
from graphopt.evaluate import profile
from graphopt.evaluate._calls import domain_of
from graphopt.evaluate._measurable import _legal_feeds

NET = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x, KIND[batch, T] z) => (float[batch, 4] y, KIND[batch, T] u) { y = Tanh(x)  u = Neg(z) }
"""


def made(tmp_path: Path, kind: str, **options: Any) -> Package:
    onnx.save(parser.parse_model(NET.replace("KIND", kind)), tmp_path / "net.onnx")
    return optimize(tmp_path / "net.onnx", tmp_path / "out", recipe="lossless", **options)


def test_sizes_of_dimensions(tmp_path: Path) -> None:
    package = made(tmp_path, "float", dims=["batch=2,5", "T=3,7"])
    assert package.manifest.sizes == {"batch": (2, 5), "T": (3, 7)}
    domain = domain_of(package)
    assert domain is not None
    shapes = [case.feeds["z"].shape for case in domain.cases(np.random.default_rng(0))]
    assert shapes == [(2, 3), (5, 7)]
    assert _legal_feeds(package.path, 16)["x"].shape == (5, 4)
    assert sum(profile(package)["model"].values()) > 0
    assert package.validate(tmp_path / "net.onnx").data == "random legal inputs"


def test_sizes_of_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((3, 4), np.float32), z=np.ones((3, 6), np.float32))
    package = made(tmp_path, "float", inputs=tmp_path / "a.npz")
    assert package.manifest.sizes == {"batch": (3,), "T": (6,)}
    assert domain_of(package) is not None


def test_values_of_integers_are_not_told_by_sizes(tmp_path: Path) -> None:
    arrays = {"x": np.ones((3, 4), np.float32), "z": np.ones((3, 6), np.int64)}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    package = made(tmp_path, "int64", inputs=tmp_path / "a.npz")
    assert package.manifest.sizes == {"batch": (3,), "T": (6,)}
    assert domain_of(package) is None
    with pytest.raises(BadInput, match=r"legal inputs of .* are unknown"):
        profile(package)
