"""graphopt passes new, targets new, models new."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from graphopt.plugins import Kind

__all__ = ["new_command"]


def new_command(kind: Kind, what: str) -> click.Command:
    """The command `new` of a group of commands about passes, targets or models."""

    @click.command(
        "new", help=f"Write a distribution with the {what} NAME, to fill in: code, tests, CI and packaging."
    )
    @click.argument("name")
    @click.option(
        "-o",
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder to write.  [default: ./graphopt-NAME]",
    )
    def command(name: str, out: Path | None) -> None:
        from graphopt.plugins import scaffold

        folder, files = scaffold(kind, name, out)
        click.echo(f"{folder}")
        for path in files:
            click.echo(f"  {path.relative_to(folder).as_posix()}")
        click.echo(f'\nNext: pip install -e "{folder}[test]", then pytest in {folder}')

    return command
