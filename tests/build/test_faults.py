"""A model that a pass breaks fails: at the edit that does it and, with edits unchecked, at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import graphopt
from graphopt.errors import CheckFailed
from graphopt.pipeline import Mismatch
from graphopt.plugins import load_recipe, registry
from graphopt.recipes import recipe_toml
from tests._sabotage import SABOTAGE

ANCHOR = '[[pass]]\nname = "tie-weights"\n'


@pytest.fixture(autouse=True)
def saboteurs(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(registry.passes()) | {p.name: p for p in SABOTAGE}
    monkeypatch.setattr(registry, "passes", lambda: known)


WIDEST = "int4-fast"
OTHERS = ("lossless", "fp16", "int8")
CASES = [
    *(pytest.param(WIDEST, p.name) for p in SABOTAGE),
    *(
        pytest.param(recipe, p.name, marks=() if i == j else pytest.mark.long)
        for i, recipe in enumerate(OTHERS)
        for j, p in enumerate(SABOTAGE)
    ),
]
"""All faults within the widest budget, and one within each other; `make test-long` has the rest."""


@pytest.mark.parametrize(("recipe", "fault"), CASES)
def test_a_broken_model_is_rejected(
    recipe: str, fault: str, begun: Path, own_cache: Path, tiny_coder: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, own_cache, dirs_exist_ok=True)
    text = recipe_toml(load_recipe(recipe))
    assert ANCHOR in text
    broken = tmp_path / f"{recipe}.toml"
    broken.write_text(text.replace(ANCHOR, f'[[pass]]\nname = "{fault}"\n\n{ANCHOR}', 1), encoding="utf-8")
    with pytest.raises(Mismatch, match=f"pass '{fault}' .exact. changes results by edit {fault}:"):
        graphopt.optimize(tiny_coder, tmp_path / "out", recipe=str(broken))
    with pytest.raises(CheckFailed, match="the package differs from its source"):
        graphopt.optimize(tiny_coder, tmp_path / "out", recipe=str(broken), verify="structure")
    assert not (tmp_path / "out").exists()
