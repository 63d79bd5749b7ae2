"""graphopt models list | new."""

from __future__ import annotations

import click

from graphopt.cli._console import console
from graphopt.cli._new import new_command
from graphopt.cli._plugins import no_plugins_option, print_left_out

__all__ = ["command"]


@click.group("models")
def command() -> None:
    """List embedded models and known families, make a family of your own."""


command.add_command(new_command("models", "model family"))


@command.command("list")
@no_plugins_option
def list_() -> None:
    """List the models that ship with graphopt and its plugins, and the families it can export."""
    import inspect

    from rich import box
    from rich.table import Table

    from graphopt.plugins import registry

    models = Table(box=box.SIMPLE_HEAD, show_edge=False)
    models.add_column("embedded model", style="cyan", no_wrap=True)
    models.add_column("where", overflow="fold")
    for name, folder in registry.embedded_models().items():
        models.add_row(name, str(folder))
    console().print(models)

    families = Table(box=box.SIMPLE_HEAD, show_edge=False)
    families.add_column("family", style="cyan", no_wrap=True)
    families.add_column("tasks", overflow="fold")
    families.add_column("what it covers", overflow="fold")
    for name, family in registry.families().items():
        families.add_row(name, ", ".join(family.tasks), (inspect.getdoc(family) or "").partition("\n")[0])
    console().print()
    console().print(families)
    print_left_out()
