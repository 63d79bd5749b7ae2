"""--no-plugins, and saying which plugins are not in use."""

from __future__ import annotations

import click

__all__ = ["no_plugins_option", "print_left_out"]


def _switch(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from graphopt.plugins import registry

        ctx.with_resource(registry.built_in_only())


no_plugins_option = click.option(
    "--no-plugins",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_switch,
    help="Use only what graphopt itself brings; import no plugin.",
)


def print_left_out() -> None:
    """A line for each plugin that is installed and not in use."""
    from graphopt.cli._console import console
    from graphopt.plugins import registry

    for plugin in registry.left_out():
        console().print(str(plugin), style="yellow", soft_wrap=True)
