"""Exports of tiny models, kept on disk, and how far they are from PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from graphopt.cache import RunCache, Store, export_key
from graphopt.export import Source, export_parts, resolve_source
from graphopt.export._config import as_dict, choose_family, load_config
from graphopt.families import Case, Family
from graphopt.interface import Interface
from graphopt.ir import load_model, save_model

TOLERANCE = 5e-5


@dataclass(frozen=True)
class Built:
    """A source folder, the file its export was saved in, and what the export says about it."""

    source: Path
    file: Path
    family: Family
    task: str
    config: dict[str, Any]
    interface: Interface

    def cases(self) -> dict[str, Case]:
        """The family's legal calls, by name."""
        domain = self.family.input_domain(self.interface, self.config)
        return {case.name: case for case in domain.cases(np.random.default_rng(0))}

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What onnxruntime makes of the exported graph, its own optimizations off."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def kept(cached: Callable[[str, Callable[[Path], None]], Path], source: Path) -> Path:
    """A cache of graphopt's own with the export of `source`, made once for each state of our source."""
    _, key = _identified(source)

    def make(folder: Path) -> None:
        _run_cache(folder, source).keep_exported(export_parts(resolve_source(str(source))))

    return cached(f"exported-{key[:16]}", make)


def _identified(source: Path) -> tuple[Source, str]:
    found = resolve_source(str(source))
    key = export_key(found, "auto")
    assert key is not None
    return found, key


def _run_cache(folder: Path, source: Path) -> RunCache:
    return RunCache(Store(folder, 1 << 40), *_identified(source), {})


def build(cached: Callable[[str, Callable[[Path], None]], Path], source: Path, name: str) -> Built:
    """The export of the model in `source`, made once for each state of our source."""

    def make(folder: Path) -> None:
        exported = _run_cache(kept(cached, source), source).exported()
        assert exported is not None
        (part,) = exported
        save_model(part.model, folder / "model.onnx")

    file = cached(f"export-{name}", make) / "model.onnx"
    config = load_config(source)
    family, task = choose_family(config, "auto", source)
    return Built(source, file, family, task, as_dict(config), Interface.of(load_model(file)))


def worst_difference(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], case: Case) -> float:
    """The largest absolute difference where `case` compares; infinite for another shape or NaN."""
    assert got.keys() == want.keys() == case.compare.keys()
    worst = 0.0
    for name, compared in case.compare.items():
        if got[name].shape != want[name].shape or got[name].dtype != want[name].dtype:
            return float("inf")
        where = np.broadcast_to(compared, got[name].shape)
        differences = np.abs(got[name] - want[name])[where]
        if differences.size:
            worst = max(worst, float(np.nan_to_num(differences, nan=np.inf).max()))
    return worst
