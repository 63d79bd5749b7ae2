"""graphopt tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option

if TYPE_CHECKING:
    from graphopt.package import TunedSession

__all__ = ["command"]


@click.command("tune")
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Length of the prompt, or text.",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Tokens that are written; of other models calls, or half a second of them.",
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npz",
    help="Inputs by name, for models that generate no text. [default: random legal ones]",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    help="Blocks in which what was found has to be faster than the default.",
)
@json_option
@quiet_option
@no_plugins_option
def command(
    package: Path,
    prompt_tokens: int,
    new_tokens: int,
    inputs: Path | None,
    blocks: int,
    json_file: str | None,
    quiet: bool,
) -> None:
    """Measure how sessions of PACKAGE are fastest on this machine, and keep that in the package.

    Threads, spinning, memory, layouts of weights and the level of onnxruntime's own optimizations are tried
    in fresh processes that take turns. What is found holds on machines like this one alone; where nothing is
    shown to be faster than the default, the default stays. Takes minutes.
    """
    from graphopt.build import Package

    loaded = Package.load(package)
    with working(quiet) as say:
        found = loaded.tune(
            prompt_tokens=prompt_tokens, new_tokens=new_tokens, inputs=inputs, blocks=blocks, say=say
        )
    write_json(json_file, found.model_dump())
    if not quiet and json_file != "-":
        _print(package, found)


def _print(package: Path, found: TunedSession) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print()
    if found.settings.told():
        said = f"{found.speedup:.3g} times as fast ({found.low:.3g} to {found.high:.3g})"
        what = f"{found.blocks} blocks, {found.measured}; the same beside itself: {found.control:.3g}"
        out.print(
            Text.assemble((f" {package}", "bold"), "  ", (str(found.settings), "bold green"), f"  {said}")
        )
        out.print(Text(f" {what}", style="dim"))
    else:
        out.print(
            Text.assemble((f" {package}", "bold"), "  the default stays: nothing was shown to be faster")
        )
    out.print()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column(" tried", no_wrap=True)
    table.add_column("times as fast", justify="right", no_wrap=True)
    table.add_column("blocks", justify="right", no_wrap=True)
    table.add_column("given up")
    for one in found.tried:
        table.add_row(f" {one.settings}", f"{one.speedup:.3g}", str(one.blocks), one.out)
    out.print(table)
