"""Measuring, with a grid that takes a second or two."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest

import graphopt.machine
from graphopt.cli._main import run
from graphopt.errors import BadInput
from graphopt.machine import (
    SMALL,
    MemorySample,
    Profile,
    keep_profile,
    known_profile,
    measure,
    read_profile,
)
from graphopt.plugins import registry
from graphopt.targets import Target
from tests.machine._profiles import NOON

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured() -> Profile:
    return measure(registry.targets()["cpu"](), (1,), grid=SMALL)


def test_all_of_the_grid_is_there(measured: Profile) -> None:
    forms = {(rate.bits, rate.block, rate.rows, rate.streamed) for rate in measured.products}
    assert forms == {
        (*form, *how) for form in ((4, 32), (32, 0)) for how in ((1, True), (1, False), (8, False))
    }
    kinds = {(rate.cache_bits, rate.past, rate.rows, rate.streamed) for rate in measured.attention}
    pasts = [(past, 1, streamed) for past in (4, 8) for streamed in (True, False)]
    assert kinds == {(bits, *rest) for bits in (8, 32) for rest in ((0, 4, True), *pasts)}
    assert [(rate.layers, rate.width, rate.threads) for rate in measured.decoders] == [(2, 64, 1)]
    assert measured.working_sets.keys() == {1}
    assert max(measured.working_sets[1]) > max((tier.bytes for tier in measured.tiers[:-1]), default=0)
    assert {rate.rows for rate in measured.float_sets} == {1, 8}
    assert len({rate.bytes for rate in measured.float_sets}) > 1
    assert measured.pulse.keys() == {1}
    assert {rate.operator for rate in measured.operators} == {"Add", "RMSNormalization"}
    assert measured.peaks.keys() == {"fp32", "int8"}
    assert measured.tiers[-1].name == "DRAM"
    assert measured.memory_bytes > 1 << 28


def test_whatever_is_measured_takes_time(measured: Profile) -> None:
    found = [*measured.dispatch.values(), *measured.loop.values(), *measured.pulse.values()]
    found += [rate.read for rate in measured.float_sets]
    found += [rate.seconds for rate in (*measured.products, *measured.attention, *measured.decoders)]
    found += [interval for rate in measured.operators for interval in (rate.call, rate.element)]
    found += [interval for tier in measured.tiers for interval in tier.read.values()]
    found += [one for one in (measured.session, measured.opening, measured.noise) if one]
    assert all(0 < one.low <= one.value <= one.high for one in found)
    assert measured.process_bytes is not None
    assert measured.process_bytes.value > 1 << 25


def test_it_is_this_machine(measured: Profile) -> None:
    assert measured.identity == registry.targets()["cpu"]().fingerprint()


def nodes(path: Path) -> Iterable[onnx.NodeProto]:
    return onnx.load(path, load_external_data=False).graph.node


class Floats(registry.targets()["cpu"]):  # type: ignore[misc]
    """A target that loads ONNX's own operators only."""

    name: ClassVar[str] = "floats"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        if any(node.domain for node in nodes(path)):
            raise BadInput("no such kernel")
        return super().session(path, threads=threads)


class NoProducts(Floats):
    name: ClassVar[str] = "no-products"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        if any(node.op_type.startswith("MatMul") for node in nodes(path)):
            raise BadInput("no kernels")
        return super().session(path, threads=threads)


def test_what_a_target_does_not_load_is_left_out() -> None:
    found = measure(Floats(), (1,), grid=SMALL)
    assert {rate.bits for rate in found.products} == {32}
    assert found.attention == ()
    assert found.loop == {}


def test_a_target_that_loads_no_product_is_told() -> None:
    with pytest.raises(BadInput, match="loads no product"):
        measure(NoProducts(), (1,), grid=SMALL)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    whole = graphopt.machine.measure
    monkeypatch.setattr(graphopt.machine, "measure", lambda *a, **k: whole(*a, **k, grid=SMALL))
    return registry.targets()["cpu"]()


def test_the_command_keeps_writes_and_shows(
    small: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "machine.json"
    asked = ["targets", "profile", "cpu", "--threads", "1"]
    assert run([*asked, "-o", str(file)]) == 0
    output = capsys.readouterr().out
    for word in ("DRAM", "fp32", "4/32", "attention", "a moment later", "kept in"):
        assert word in output
    kept = known_profile(small, 1)
    assert kept is not None
    assert kept == read_profile(file)

    earlier = MemorySample(at=NOON, threads=1, read=1e9)
    keep_profile(kept.model_copy(update={"memory": (earlier,)}))
    assert run([*asked, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    again = known_profile(small, 1)
    assert again is not None
    assert earlier in again.memory, "samples of earlier times say more of memory's spread"
