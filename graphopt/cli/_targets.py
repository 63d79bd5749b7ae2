"""graphopt targets list | show | new | doctor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console
from graphopt.cli._new import new_command
from graphopt.cli._plugins import no_plugins_option, print_left_out
from graphopt.errors import EnvironmentProblem, GraphoptError

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["command"]


@click.group("targets")
def command() -> None:
    """List targets, show one, make your own, check this machine."""


command.add_command(new_command("targets", "target"))


@command.command("list")
@no_plugins_option
def list_() -> None:
    """List every installed target."""
    import inspect

    from rich import box
    from rich.table import Table

    from graphopt.plugins import registry

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("target", style="cyan", no_wrap=True)
    table.add_column("what it is")
    for name, cls in registry.targets().items():
        table.add_row(name, (inspect.getdoc(cls) or "").partition("\n")[0])
    console().print(table)
    print_left_out()


@command.command("show")
@no_plugins_option
@click.argument("name")
def show(name: str) -> None:
    """Show what the target NAME is, what it found here, and the passes it lowers with."""
    import inspect

    from rich.text import Text

    from graphopt.plugins import registry
    from graphopt.recipes import Budget, Recipe

    target: Target = registry.resolve("target", name, registry.targets())()
    out = console()
    out.print(Text(target.name, "bold cyan"))
    out.print(Text(inspect.getdoc(target) or ""))
    out.print()
    _print_facts(target.fingerprint())
    out.print()
    steps = target.lowering(Recipe("", "", Budget(), ()))
    out.print(Text.assemble("lowers with  ", (", ".join(step.name for step in steps) or "nothing", "cyan")))


@command.command("doctor")
@no_plugins_option
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check that what graphopt needs is installed and works here, and show what a bug report should say."""
    import platform

    from rich.text import Text

    from graphopt.package import versions

    out = console()
    _print_facts(
        {
            "system": f"{platform.system()} {platform.machine()}",
            **versions(("onnxruntime", "onnxruntime-genai")),
        }
    )
    out.print()
    problems = 0
    for name, check in _checks().items():
        try:
            mark, said = ("✓", "green"), check()
        except Exception as error:
            expected = isinstance(error, GraphoptError)
            mark, said = ("✗", "red"), str(error) if expected else f"{type(error).__name__}: {error}"
            problems += 1
        out.print(Text.assemble((f" {mark[0]} ", mark[1]), (name, "bold"), f"  {said}"))
    ctx.exit(EnvironmentProblem.exit_code if problems else 0)


def _checks() -> dict[str, Callable[[], str]]:
    from graphopt.plugins import registry

    def runtime() -> str:
        from graphopt.runtime import check_installation, default_threads

        check_installation()
        return f"one installation, {default_threads()} threads"

    def exporter() -> str:
        from graphopt.export import require_exporter

        require_exporter()
        return "PyTorch and transformers can export models"

    def plugins() -> str:
        counts = (len(registry.passes()), len(registry.recipes()), len(registry.families()))
        said = "{} passes, {} recipes, {} model families".format(*counts)
        return "; ".join([said, *map(str, registry.left_out())])

    def target(name: str) -> Callable[[], str]:
        return lambda: ", ".join(f"{k} {v}" for k, v in registry.targets()[name]().fingerprint().items())

    checks: dict[str, Callable[[], str]] = {"onnxruntime": runtime, "export": exporter, "plugins": plugins}
    try:
        return checks | {f"target {name}": target(name) for name in registry.targets()}
    except GraphoptError:
        return checks


def _print_facts(facts: Mapping[str, str]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(str(key), str(value))
    console().print(table)
