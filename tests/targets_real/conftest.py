"""Targets whose runtimes are in Pythons of their own: `make test-targets` makes these and runs what is here.

`make test` does not: tests/targets/test_foreign.py has the same with a runtime that needs no other Python.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphopt.plugins import registry
from graphopt.targets import ForeignTarget

PLACE = os.environ.get("GRAPHOPT_REAL_TARGETS")
"""Graphopt's cache that has them."""

collect_ignore_glob = [] if PLACE else ["test_*.py"]


@pytest.fixture(autouse=True)
def made_pythons(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    """Tests have caches of their own, and these Pythons all the same."""
    monkeypatch.setenv("GRAPHOPT_CACHE", str(PLACE))
    targets = [made for cls in registry.targets().values() if isinstance(made := cls(), ForeignTarget)]
    pythons = {target.interpreter.setting: target.interpreter.python() for target in targets}
    for setting, python in pythons.items():
        monkeypatch.setenv(setting, str(python))
    monkeypatch.setenv("GRAPHOPT_CACHE", str(own_cache))
