"""A weight, and a file of a model that holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import graphopt.ir._save as saving
from graphopt.ir import save_model
from tests.ir._weighted import weighted


@pytest.fixture(autouse=True)
def _small_data_files(monkeypatch) -> None:
    """Weights of these tests are too small for a data file of their own: here they have one."""
    monkeypatch.setattr(saving, "_DATA_FROM", 0)


@pytest.fixture
def weight() -> np.ndarray:
    """Random float32[64,64]: big enough to be written as external data."""
    return np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


@pytest.fixture
def saved(tmp_path, weight) -> Path:
    """`model.onnx`, with `model.onnx.data` beside it."""
    save_model(weighted(weight), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"
