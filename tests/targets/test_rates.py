"""How long products take here: what is known of such a machine, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import graphopt_targets.cpu._rates as rates
import numpy as np
import pytest

from graphopt.plugins import registry
from graphopt.targets import BlockProduct

PRODUCT = BlockProduct(bits=4, k=512, n=24, level=4)


def test_what_is_known_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, seconds = registry.targets()["cpu"](), {"64": 1.0, "128": 2.0}
    machine = rates.relevant(target.fingerprint())
    monkeypatch.setattr(rates, "KNOWLEDGE", tmp_path / "knowledge.json")
    entry = {"machine": machine, "product": asdict(PRODUCT), "seconds": seconds}
    rates.KNOWLEDGE.write_text(json.dumps([entry]))
    monkeypatch.setattr(rates, "_least", lambda product, blocks, **how: dict.fromkeys(blocks, 4.0))

    assert target.product_seconds(PRODUCT, (64, 128)) == {64: 1.0, 128: 2.0}
    assert target.product_seconds(PRODUCT, (128, 256)) == {128: 8.0, 256: 8.0}
    assert target.product_seconds(replace(PRODUCT, n=25), (64, 128)) == {64: 8.0, 128: 8.0}


def test_what_is_known_is_of_the_same_machine_and_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"processor": "P", "instructions": "I", "threads": "2", "onnxruntime": "1", "cores": "4"}
    seconds = {"128": 2.0, "256": 1.0}
    entry = {"machine": rates.relevant(machine), "product": asdict(PRODUCT), "seconds": seconds}
    file = tmp_path / "knowledge.json"
    file.write_text(json.dumps([entry]))
    monkeypatch.setattr(rates, "KNOWLEDGE", file)

    assert rates.known_seconds({**machine, "cores": "8"}, PRODUCT) == {128: 2.0, 256: 1.0}
    assert rates.known_seconds({**machine, "onnxruntime": "2"}, PRODUCT) is None
    assert rates.known_seconds(machine, replace(PRODUCT, n=25)) is None


def test_our_own_kernels_are_known_under_any_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"processor": "P", "instructions": "avx512f avx512_vnni f16c", "threads": "2"}
    machine |= {"onnxruntime": "1", "kernels": "graphopt-avx512-vnni"}
    entry = {"machine": machine, "product": asdict(PRODUCT), "seconds": {"128": 2.0, "256": 1.0}}
    file = tmp_path / "knowledge.json"
    file.write_text(json.dumps([entry]))
    monkeypatch.setattr(rates, "KNOWLEDGE", file)
    there = {**machine, "onnxruntime": "2", "instructions": "avx2 avx512f avx512_vnni"}

    assert rates.known_seconds(there, PRODUCT) == {128: 2.0, 256: 1.0}
    assert rates.known_seconds({**there, "kernels": "graphopt-avx2"}, PRODUCT) is None
    assert rates.known_seconds({**there, "threads": "4"}, PRODUCT) is None
    assert rates.known_seconds({**there, "kernels": "onnxruntime"}, PRODUCT) is None


def test_of_a_large_weight_some_rows_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def least(product: BlockProduct, blocks: Sequence[int], **how: int) -> dict[int, float]:
        measured.append(product.n)
        return dict.fromkeys(blocks, 1.0)

    monkeypatch.setattr(rates, "_LARGEST", 8 * PRODUCT.k * PRODUCT.bits // 8)
    monkeypatch.setattr(rates, "_least", least)

    assert rates.measured_seconds(PRODUCT, (64,)) == {64: 2.0 * PRODUCT.n / 8}
    assert measured == [8, 8]


def test_every_known_entry_names_its_evidence() -> None:
    for entry in json.loads(rates.KNOWLEDGE.read_text(encoding="utf-8")):
        assert set(entry["machine"]) == set(rates.relevant({}))
        assert set(entry["product"]) == {"bits", "k", "n", "level"}
        assert set(entry["seconds"]) == {"128", "256"}
        assert entry["date"]


def test_measuring_runs_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_BYTES", 1 << 13)
    monkeypatch.setattr(rates, "_SECONDS", 0)
    found = rates.measured_seconds(PRODUCT, (64, 128))

    assert set(found) == {64, 128}
    assert np.isfinite(list(found.values())).all()


def test_no_two_weights_that_are_measured_are_equal() -> None:
    model = rates._products(PRODUCT, 128, 1, 3)
    weights = [v.const_value.numpy() for n, v in model.graph.initializers.items() if n.startswith("w")]

    assert len({weight.tobytes() for weight in weights}) == 3
