"""Nets of many kinds, made packages as a user makes them and run beside their sources, at two sizes."""

from __future__ import annotations

import lzma
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from graphopt import Package, optimize
from graphopt.metrics import cosine_similarity
from graphopt.runtime import open_session
from tests._cache import ROOT

FASTER_RCNN = Path(__file__).parent / "nets" / "faster-rcnn.onnx.xz"
CALIBRATED = ["unet-nearest", "ssd", "conv-lstm-5", "gru-text", "speech-16k", "vits"]
Feeds = dict[str, np.ndarray]


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def nets() -> Iterator[Mapping[str, Any]]:
    """The small nets of benchmarks/coverage.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        made = [net for name in ("torch", "detectors") for net in import_module(f"_nets_{name}").NETS]
        yield {net.name: net for net in made}


def packed(folder: Path, feeds: Feeds, recipe: str = "lossless", **options: Any) -> Package:
    np.savez(folder / "inputs.npz", **feeds)
    given = {"inputs": str(folder / "inputs.npz"), "cache": False} | options
    return optimize(str(folder / "model.onnx"), str(folder / recipe), recipe=recipe, **given)


def calibration(folder: Path, feeds: Feeds) -> str:
    rng, place = np.random.default_rng(0), folder / "calibration"
    place.mkdir()
    for number in range(8):
        drawn = {
            name: rng.standard_normal(array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in feeds.items()
        }
        np.savez(place / f"{number}.npz", **drawn)
    return str(place)


def both(folder: Path, package: Package, feeds: Feeds) -> list[tuple[np.ndarray, np.ndarray]]:
    """What source and package give in the first call of a session: numbers drawn from a seed are the same."""
    expected = open_session(folder / "model.onnx", threads=1).run(None, feeds)
    return list(zip(expected, package.session(threads=1).run(None, feeds), strict=True))


def assert_same(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for expected, got in pairs:
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        assert expected.size
        if expected.dtype.kind == "f":
            spread = float(expected.std())
            assert spread > 0
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * spread)
        else:
            np.testing.assert_array_equal(got, expected)


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)


@pytest.mark.parametrize(
    "name",
    ["unet-nearest", "ssd", "yolo", "faster-rcnn", "conv-lstm", "conv-lstm-5", "gru-text", "speech-16k"],
)
def test_lossless_packages_are_their_sources_at_two_sizes(
    nets: Mapping[str, Any], tmp_path: Path, name: str
) -> None:
    small, large = nets[name].make(tmp_path)
    package = packed(tmp_path, small)

    assert package.manifest.closing_check == "passed"
    for feeds in (small, large):
        assert_same(both(tmp_path, package, feeds))
    before, after = kinds(tmp_path / "model.onnx"), kinds(package.path / "model.onnx")
    assert after.total() < before.total()
    assert after["NonMaxSuppression"] == before["NonMaxSuppression"]


@pytest.mark.parametrize("name", CALIBRATED)
def test_int8_packages_are_close_to_their_sources_at_two_sizes(
    nets: Mapping[str, Any], tmp_path: Path, name: str
) -> None:
    small, large = nets[name].make(tmp_path)
    options = {"calibration": calibration(tmp_path, small), "verify": "off"}
    package = packed(tmp_path, small, "int8", **options)

    held = onnx.load(package.path / "model.onnx", load_external_data=False).graph.initializer
    assert name not in ("ssd", "gru-text") or {tensor.data_type for tensor in held} & {
        onnx.TensorProto.INT8,
        onnx.TensorProto.UINT8,
    }
    for feeds in (small, large):
        for expected, got in both(tmp_path, package, feeds):
            if expected.dtype.kind == "f":
                assert got.shape == expected.shape
                rows = [array.reshape(1, -1) for array in (expected, got)]
                assert cosine_similarity(*rows).min() > 0.995
            else:
                np.testing.assert_array_equal(got, expected)


def test_torchvisions_faster_rcnn(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(lzma.decompress(FASTER_RCNN.read_bytes()))
    rng = np.random.default_rng(0)
    small, large = ({"image": rng.random((3, *size), dtype=np.float32)} for size in ((96, 120), (140, 90)))
    package = packed(tmp_path, small, verify="off")

    for feeds in (small, large):
        assert_same(both(tmp_path, package, feeds))
    before, after = kinds(tmp_path / "model.onnx"), kinds(package.path / "model.onnx")
    assert after.total() < before.total() / 2
    for kind in ("NonMaxSuppression", "RoiAlign", "TopK"):
        assert after[kind] == before[kind]


@pytest.mark.parametrize("rate", [16000, 8000])
def test_a_branch_for_each_sampling_rate(nets: Mapping[str, Any], tmp_path: Path, rate: int) -> None:
    small, large = (feeds | {"rate": np.array(rate)} for feeds in nets["speech-if"].make(tmp_path))
    package = packed(tmp_path, small)

    for feeds in (small, large):
        assert_same(both(tmp_path, package, feeds))
    other = {**large, "rate": np.array(24000 - rate)}
    assert_same(both(tmp_path, package, other))


def test_noise_from_a_seed_is_the_same_noise(nets: Mapping[str, Any], tmp_path: Path) -> None:
    small, large = nets["vits"].make(tmp_path)
    package = packed(tmp_path, small)

    for feeds in (small, large):
        assert_same(both(tmp_path, package, feeds))


def test_noise_without_a_seed_stays_noise_of_the_same_kind(nets: Mapping[str, Any], tmp_path: Path) -> None:
    small, large = nets["vits"].make(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    for node in model.graph.node:
        if node.op_type == "RandomNormalLike":
            kept = [a for a in node.attribute if a.name != "seed"]
            del node.attribute[:]
            node.attribute.extend(kept)
    onnx.save(model, tmp_path / "model.onnx")
    silent = [feeds | {"noise_scale": np.zeros_like(feeds["noise_scale"])} for feeds in (small, large)]
    package = packed(tmp_path, silent[0])

    for feeds in silent:
        assert_same(both(tmp_path, package, feeds))
    sessions = open_session(tmp_path / "model.onnx", threads=1), package.session(threads=1)
    for _ in range(64):  # onnxruntime's sessions of one process draw the same numbers where none is a seed
        sessions[1].run(None, small)
    drawn = [np.stack([session.run(None, small)[0] for _ in range(64)]) for session in sessions]
    expected, got = ((array.mean(0), array.var(0) / len(array)) for array in drawn)
    apart = (got[0] - expected[0]) / np.sqrt(got[1] + expected[1])
    assert 0.8 < float(np.sqrt(np.mean(apart**2))) < 1.25  # in standard errors: 1, if they are of one kind
