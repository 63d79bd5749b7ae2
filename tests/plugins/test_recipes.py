"""Recipes: read, extended with --set, refused with a suggestion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from graphopt.errors import BadInput
from graphopt.pipeline import Contract, Level, Pass
from graphopt.plugins import build_steps, load_recipe, registry, with_options


class Demo(Pass):
    """A pass for these tests."""

    name = "demo"
    level = Level.IMPROVE
    contract = Contract.exact()

    @dataclass(frozen=True)
    class Options:
        block_size: int = 32
        deep: bool = False
        bits: Literal[4, 8] = 4

    def edits(self, graph, context):
        yield from ()


@pytest.fixture(autouse=True)
def only_demo(monkeypatch):
    monkeypatch.setattr(registry, "passes", lambda: {"demo": Demo})


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'description = "d"\n[budget]\nkl_mean = 0.1\n[[pass]]\nname = "demo"\n'
        '[[pass]]\nname = "demo"\nblock_size = 64\n[[pass]]\nname = "@lower"\n'
    )
    return load_recipe(str(path))


def test_steps_budget_and_lowering(recipe):
    assert recipe.name == "mine"
    assert recipe.budget.kl_mean == 0.1
    assert not recipe.budget.lossless
    assert [s.name for s in recipe.expanded(()).steps] == ["demo", "demo"]
    assert [name for name, _ in build_steps(recipe.expanded(()))] == ["demo", "demo#2"]


def test_set_reaches_all_uses_or_the_numbered_one(recipe):
    everywhere = build_steps(with_options(recipe, ["demo.block-size=128"]).expanded(()))
    assert [p.options.block_size for _, p in everywhere] == [128, 128]
    chosen = build_steps(with_options(recipe, ["demo#1.bits=8"]).expanded(()))
    assert [p.options.bits for _, p in chosen] == [8, 4]
    second = build_steps(with_options(recipe, ["demo#2.deep=true"]).expanded(()))
    assert [p.options.deep for _, p in second] == [False, True]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("demo.blok_size=1", "Did you mean 'block_size'"),
        ("demo.block_size=many", "block_size"),
        ("demo.bits=5", "bits"),
        ("dema.block_size=1", "Did you mean 'demo'"),
        ("demo#3.block_size=1", "2 time"),
        ("demo", "PASS"),
    ],
)
def test_bad_settings_are_refused_with_a_hint(recipe, setting, message):
    with pytest.raises(BadInput) as error:
        build_steps(with_options(recipe, [setting]).expanded(()))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "= 1",
        "[[pass]]\nn = 1\n",
        "pass = 3\n",
        "[budget]\nklmean = 1\n[[pass]]\nname='demo'\n",
        "[budget]\nkl_mean = -1\n[[pass]]\nname='demo'\n",
        "[budget]\ncosine_min = 2\n[[pass]]\nname='demo'\n",
    ],
)
def test_bad_files_are_refused(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(BadInput):
        load_recipe(str(path))


def test_unknown_recipe_suggests_the_nearest(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "recipes", lambda: {"lossless": tmp_path})
    with pytest.raises(BadInput, match="lossless"):
        load_recipe("losless")
