"""A target from the scaffold that computes in bfloat16 and does not say so, really installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.conftest import Environment

SESSION = """
    def session(self, path, *, threads=None):
        return Rounded(super().session(path, threads=threads))


class Rounded:
    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, names, feeds, options=None):
        import ml_dtypes

        found = self._session.run(names, feeds, options)
        return [a.astype(ml_dtypes.bfloat16).astype(a.dtype) for a in found]

"""


@pytest.mark.slow
def test_it_is_named(tmp_path: Path, encoder: tuple[Path, Path], warm_programs: Path) -> None:
    source, package = encoder
    environment = Environment.create(tmp_path / "venv")
    assert environment.graphopt("targets", "new", "low-bits", cwd=tmp_path).returncode == 0
    folder = tmp_path / "graphopt-low-bits"
    module = folder / "src" / "graphopt_low_bits" / "low_bits.py"
    text = module.read_text()
    before, mark, after = text.partition("\n\nclass LowBitsCapabilities")
    module.write_text(before + SESSION + mark + after)
    environment.install(folder)
    environment.programs = warm_programs

    done = environment.graphopt(
        *("validate", package, "--reference", source, "--targets", "cpu,low-bits", "--json", "-"),
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: one["form"] for name, one in found["precision"].items()} == {
        "cpu": "float32",
        "low-bits": "bfloat16",
    }
    assert [(pair["reference"], pair["side"]) for pair in found["pairs"]] == [
        ("source", "cpu"),
        ("source", "low-bits"),
        ("cpu", "low-bits"),
    ]
