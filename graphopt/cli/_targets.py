"""graphopt targets list | show | new | doctor | profile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console
from graphopt.cli._new import new_command
from graphopt.cli._plugins import no_plugins_option, print_left_out
from graphopt.cli._profile import command as profile
from graphopt.errors import BadInput, EnvironmentProblem, GraphoptError

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["command"]


@click.group("targets")
def command() -> None:
    """List targets, show one, make your own, check and measure this machine."""


command.add_command(new_command("targets", "target"))
command.add_command(profile)


@command.command("list")
@no_plugins_option
def list_() -> None:
    """List every installed target."""
    from rich import box
    from rich.table import Table

    from graphopt.plugins import registry

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("target", style="cyan", no_wrap=True)
    table.add_column("what it is")
    for name, cls in registry.targets().items():
        table.add_row(name, cls.title())
    console().print(table)
    print_left_out()


@command.command("show")
@no_plugins_option
@click.argument("name")
def show(name: str) -> None:
    """Show what the target NAME is, what it found here, and the passes it lowers with."""
    from rich.text import Text

    from graphopt.plugins import registry
    from graphopt.recipes import Budget, Recipe

    target: Target = registry.resolve("target", name, registry.targets())()
    out = console()
    out.print(Text(target.name, "bold cyan"))
    out.print(Text(target.title()))
    out.print()
    _print_facts({**target.facts(), **target.fingerprint()})
    out.print()
    steps = target.lowering(Recipe("", "", Budget(), ()))
    out.print(Text.assemble("lowers with  ", (", ".join(step.name for step in steps) or "nothing", "cyan")))


@command.command("doctor")
@no_plugins_option
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--probe", is_flag=True, help="Ask the installed runtime of each TARGET what changed since its table."
)
@click.option("--write", is_flag=True, help="With --probe: write what it tells into the target's file.")
@click.option("--install", is_flag=True, help="First make the Python of its own that a TARGET needs.")
@click.pass_context
def doctor(ctx: click.Context, names: tuple[str, ...], probe: bool, write: bool, install: bool) -> None:
    """Check that what graphopt needs is installed and works here, and show what a bug report should say.

    Targets that need another machine or other wheels are listed with what is missing and the command that
    mends it. They are no problem, unless TARGETs are named: then these have to be ready. With --probe the
    exit code is 1 where a table is not what the runtime tells.
    """
    if install:
        _install(names)
    if probe:
        ctx.exit(_probe(names, write=write))
    if write:
        raise click.UsageError("--write goes with --probe")
    if not names:
        _print_system()
    checks = _target_checks(names) if names else _checks()
    problems = sum(not _said(name, check) for name, check in checks.items())
    if not names:
        _print_others()
    ctx.exit(EnvironmentProblem.exit_code if problems else 0)


def _install(names: Sequence[str]) -> None:
    from graphopt.plugins import registry
    from graphopt.targets import ForeignTarget

    if not names:
        raise BadInput("--install makes what a target needs: say which", hint="See graphopt targets list.")
    for name in names:
        target = registry.resolve("target", name, registry.targets())()
        if not isinstance(target, ForeignTarget):
            raise BadInput(
                f"target {name!r} has no Python of its own", hint="Its wheels are installed beside graphopt."
            )
        target.interpreter.install()


def _print_system() -> None:
    import platform

    from graphopt.package import versions

    _print_facts(
        {
            "system": f"{platform.system()} {platform.machine()}",
            **versions(("onnxruntime", "onnxruntime-genai")),
        }
    )
    console().print()


def _said(name: str, check: Callable[[], str]) -> bool:
    """Whether all is well, having printed it."""
    from rich.text import Text

    try:
        mark, colour, said = "✓", "green", check()
    except Exception as error:
        expected = isinstance(error, GraphoptError)
        mark, colour = "✗", "red"
        said = str(error) if expected else f"{type(error).__name__}: {error}"
    console().print(Text.assemble((f" {mark} ", colour), (name, "bold"), f"  {said}"))
    return mark == "✓"


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

    checks: dict[str, Callable[[], str]] = {"onnxruntime": runtime, "export": exporter, "plugins": plugins}
    try:
        return checks | _target_checks([registry.default_target().name])
    except GraphoptError:
        return checks


def _target_checks(names: Sequence[str]) -> dict[str, Callable[[], str]]:
    from graphopt.plugins import registry

    def check(cls: type[Target]) -> str:
        target = cls()
        diagnosis = target.diagnose()
        diagnosis.require(target.name)
        return ", ".join(f"{key} {value}" for key, value in target.fingerprint().items())

    known = registry.targets()
    return {
        f"target {name}": functools.partial(check, registry.resolve("target", name, known)) for name in names
    }


def _print_others() -> None:
    """Of every other target, whether it can run here, and what would mend it."""
    from rich.text import Text

    from graphopt.plugins import registry

    try:
        first = registry.default_target().name
        others = {name: cls() for name, cls in registry.targets().items() if name != first}
    except GraphoptError:
        return
    for name, target in others.items():
        found = target.diagnose()
        mark, colour = ("✓", "green") if found.ready else ("-", "dim")
        line = Text.assemble((f" {mark} ", colour), (f"target {name}", "bold"), f"  {found.said}")
        if found.command is not None:
            line.append(f"\n     {found.command}", "cyan")
        console().print(line)


def _probe(names: Sequence[str], *, write: bool) -> int:
    """Prints what changed in the kernels of each target since its table was written; 1 where anything did.

    Without names, of every described target whose runtime is installed and tells; not of those in Pythons of
    their own, whose operators are tried one by one, for minutes.
    """
    from graphopt.plugins import registry
    from graphopt.targets import DescribedTarget, ForeignTarget, table_changes

    known = registry.targets()
    classes = [registry.resolve("target", name, known) for name in names] or [
        cls
        for cls in known.values()
        if issubclass(cls, DescribedTarget) and not issubclass(cls, ForeignTarget)
    ]
    changed = 0
    for cls in classes:
        target = cls()
        if not isinstance(target, DescribedTarget) or target.description.operators is None:
            if names:
                raise BadInput(f"target {target.name!r} has no table that could be compared")
            continue
        try:
            tables = target.probed()
        except EnvironmentProblem:
            if names:
                raise
            continue
        if tables is None:
            if names:
                raise BadInput(f"the runtime of target {target.name!r} tells no kernels of its own")
            continue
        found = table_changes(target.description.operators, tables)
        written = target.description.operators
        console().print(
            f"{target.name}: {len(found) or 'no'} changes since {written.version}, {written.date}"
            f" (asked: {tables.version})",
            highlight=False,
        )
        for line in found:
            console().print(f"  {line}", highlight=False, markup=False)
        if write:
            target.write(tables)
        changed += bool(found) and not write
    return int(changed > 0)


def _print_facts(facts: Mapping[str, str]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        table.add_row(str(key), str(value))
    console().print(table)
