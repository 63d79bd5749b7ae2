"""graphopt passes list | show | new | check."""

from __future__ import annotations

import inspect

import click

from graphopt.cli import _check
from graphopt.cli._console import console
from graphopt.cli._new import new_command
from graphopt.cli._plugins import no_plugins_option, print_left_out
from graphopt.errors import BadInput

__all__ = ["command"]


@click.group("passes")
def command() -> None:
    """List passes and recipes, show one, make and check your own."""


command.add_command(new_command("passes", "pass"))
command.add_command(_check.command)


@command.command("list")
@no_plugins_option
def list_() -> None:
    """List every installed pass and recipe."""
    from rich import box
    from rich.table import Table

    from graphopt.plugins import load_recipe, registry

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("pass", style="cyan", no_wrap=True)
    table.add_column("level", no_wrap=True)
    table.add_column("contract", no_wrap=True)
    table.add_column("what it does")
    for cls in sorted(registry.passes().values(), key=lambda p: (p.level, p.name)):
        table.add_row(cls.name, cls.level.name.lower(), str(cls.contract), _first_line(cls))
    console().print(table)

    recipes = Table(box=box.SIMPLE_HEAD, show_edge=False)
    recipes.add_column("recipe", style="cyan", no_wrap=True)
    recipes.add_column("steps", justify="right")
    recipes.add_column("budget", no_wrap=True)
    recipes.add_column("what it is for")
    for name in registry.recipes():
        try:
            recipe = load_recipe(name)
        except BadInput as error:
            recipes.add_row(name, "?", "?", error.message, style="yellow")
            continue
        budget = "\n".join(f"{k} {v}" for k, v in recipe.budget.model_dump().items() if v is not None)
        recipes.add_row(name, str(len(recipe.steps)), budget or "lossless", recipe.description)
    console().print()
    console().print(recipes)
    print_left_out()


@command.command("show")
@no_plugins_option
@click.argument("name")
def show(name: str) -> None:
    """Show what the pass NAME does and its options, or every step of the recipe NAME (or FILE.toml).

    A recipe is shown whole, with what it extends and its groups written out: as a file that can be changed.
    """
    from rich.syntax import Syntax
    from rich.text import Text

    from graphopt.plugins import load_recipe, registry
    from graphopt.recipes import recipe_toml

    if name.endswith(".toml") or (name in registry.recipes() and name not in registry.passes()):
        toml = recipe_toml(load_recipe(name))
        console().print(Syntax("", "toml", theme="ansi_dark").highlight(toml), soft_wrap=True, end="")
        return
    cls = registry.resolve("pass", name, {**registry.passes(), **registry.recipes()})
    out = console()
    out.print(Text.assemble((cls.name, "bold cyan"), f"  {cls.level.name.lower()}, {cls.contract}"))
    out.print(Text(f"opsets {cls.opsets}", style="dim"))
    out.print()
    out.print(Text(inspect.getdoc(cls) or ""), soft_wrap=True)
    fields = cls.Options.__dataclass_fields__.values()
    if fields:
        out.print()
        out.print(Text("Options", style="bold"))
        for field in fields:
            out.print(Text(f"  {field.name.replace('_', '-')}: {field.type} = {field.default}"))
        if doc := _own_doc(cls.Options):
            out.print(Text(doc), soft_wrap=True)


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _own_doc(cls: type) -> str:
    doc = inspect.getdoc(cls) or ""
    return "" if doc.startswith(("No options", f"{cls.__name__}(")) else doc
