"""Recipes that extend others: what they become, step by step, and where what is wrong is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphopt.cli._main import run
from graphopt.errors import BadInput
from graphopt.plugins import load_recipe, registry
from graphopt.recipes import Budget, Recipe

STEPS = Path(__file__).with_name("recipe_steps.txt")
BASE = """
description = "base"
[budget]
kl_mean = 0.5
[[pass]]
name = "@first"
[[pass]]
name = "cse"
[[pass]]
name = "@then"
[[pass]]
name = "@lower"
[group]
then = []
[[group.first]]
name = "upgrade"
[[group.first]]
name = "fold-constants"
max_growth = 3
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(**texts: str) -> str:
        for name, text in {"base": BASE, **texts}.items():
            (tmp_path / f"{name}.toml").write_text(text)
        return str(tmp_path / f"{next(iter(texts))}.toml")

    return write


def listed(recipe: Recipe) -> list[str]:
    return [" ".join([step.name, *(f"{k}={v!r}" for k, v in step.options.items())]) for step in recipe.steps]


def refusal(path: str) -> str:
    with pytest.raises(BadInput) as error:
        load_recipe(path)
    return str(error.value)


def stored() -> dict[str, list[str]]:
    texts = re.split(r"^(?=\S)", STEPS.read_text(), flags=re.MULTILINE)[1:]
    return {name: [line.strip() for line in lines] for name, *lines in map(str.splitlines, texts)}


@pytest.mark.parametrize("name", stored())
def test_a_built_in_recipe_is_what_it_was_step_for_step(name: str) -> None:
    assert listed(load_recipe(name)) == stored()[name]


def test_the_stored_listing_has_every_built_in_recipe() -> None:
    with registry.built_in_only():
        assert set(stored()) == set(registry.recipes())


def test_what_a_recipe_says_takes_the_place_of_what_it_extends(write) -> None:
    recipe = load_recipe(write(mine='extends = "base.toml"\n[[group.then]]\nname = "dead-code"\n'))

    assert listed(recipe) == ["upgrade", "fold-constants max_growth=3", "cse", "dead-code", "@lower"]
    assert [step.origin for step in recipe.steps] == [
        *["@first of base"] * 2,
        "base",
        "@then of mine",
        "what the target asks for, in base",
    ]
    assert (recipe.name, recipe.description, recipe.budget) == ("mine", "", Budget(kl_mean=0.5))


def test_a_group_of_the_same_name_takes_the_others_place(write) -> None:
    mine = 'extends = "base.toml"\n[budget]\n[group]\nfirst = []\n'

    assert listed(load_recipe(write(mine=mine))) == ["cse", "@lower"]
    assert load_recipe(write(mine=mine)).budget.lossless


def test_steps_of_its_own_use_the_groups_it_extends(write) -> None:
    mine = 'extends = "base.toml"\n[[pass]]\nname = "@first"\n[[pass]]\nname = "@first"\n'

    assert listed(load_recipe(write(mine=mine))) == ["upgrade", "fold-constants max_growth=3"] * 2


def test_paths_are_from_the_folder_of_the_file_that_says_them(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    write(**{"deep/mine": 'extends = "../middle.toml"\n', "middle": 'extends = "base.toml"\n'})
    monkeypatch.chdir("/")

    assert load_recipe(str(tmp_path / "deep" / "mine.toml")).steps == load_recipe(write(base=BASE)).steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "mine.toml"', ["mine extends mine"]),
        ('extends = "other.toml"', ["mine extends other extends mine"]),
        ('extends = "losless"', ["mine.toml: extends: unknown recipe 'losless'", "'lossless'"]),
        ('extends = "gone.toml"', ["mine.toml: extends: recipe file gone.toml does not exist"]),
        ("extends = 3", ["mine.toml: extends:"]),
        ('description = "nothing"', ["mine.toml", "steps"]),
        ('extends = "base.toml"\n[group]\nthan = []', ["mine.toml: group 'than'", "Did you mean '@then'?"]),
        ('extends = "base.toml"\n[group]\nlower = []', ["mine.toml: group 'lower'", "target"]),
        ('[[pass]]\nname = "@a"\n[[group.a]]\nname = "@b"', ["mine.toml: group 'a' holds '@b'"]),
        ('[[pass]]\nname = "@a"\n[[group.a]]\nname = "@a"', ["mine.toml: group 'a' holds '@a'"]),
        (
            'extends = "base.toml"\n[[pass]]\nname = "cse"\n[[pass]]\nname = "@frist"',
            ["mine.toml: [[pass]] 2: there is no group @frist", "Did you mean '@first'?"],
        ),
        ('[[pass]]\nname = "@lower"\nmode = 1', ["[[pass]] 1: @lower takes no options"]),
        ('extends = "base.toml"\n[[group.then]]\nnam = "cse"', ["mine.toml: group.then.0.name"]),
        ('extends = "base.toml"\npath = "x"', ["mine.toml: path"]),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write, text: str, said: list[str]) -> None:
    message = refusal(write(mine=text, other='extends = "mine.toml"'))

    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize("name", stored())
def test_show_prints_a_recipe_that_extends_none(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["passes", "show", name]) == 0
    shown = capsys.readouterr().out
    (tmp_path / "copy.toml").write_text(shown)
    copy, recipe = load_recipe(str(tmp_path / "copy.toml")), load_recipe(name)

    assert "extends" not in shown
    assert "# @canonical of lossless\n" in shown
    assert (copy.description, copy.budget, copy.steps) == (recipe.description, recipe.budget, recipe.steps)


def test_show_takes_a_file_and_keeps_odd_options(
    write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = 'a = "q\\"\\n"\nb = [1, 2.5]\nc = true\n"d e" = { x = inf }\nf = 1e-30\ng = 2024-01-01\n'
    path = write(mine=f'extends = "base.toml"\n[[group.then]]\nname = "cse"\n{options}')
    assert run(["passes", "show", path]) == 0
    shown = capsys.readouterr().out
    (tmp_path / "copy.toml").write_text(shown)

    assert "# @then of mine\n" in shown
    assert load_recipe(str(tmp_path / "copy.toml")).steps == load_recipe(path).steps
