"""graphopt prepack."""

from __future__ import annotations

from pathlib import Path

import click

from graphopt.cli._console import console, quiet_option
from graphopt.cli._plugins import no_plugins_option

__all__ = ["command"]


@click.command("prepack")
@click.argument("package", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace the package that is at the output folder.")
@quiet_option
@no_plugins_option
def command(package: Path, out: Path, force: bool, quiet: bool) -> None:
    """Copy PACKAGE with its weights stored twice, also as this machine's kernels want them.

    Sessions start sooner and processes share the memory, for about twice the bytes on disk. onnxruntime
    refuses the copy on a machine whose kernels want another layout.
    """
    from graphopt.build import Package
    from graphopt.package import prepack
    from graphopt.report import bytes_text

    made = prepack(Package.load(package), out, force=force)
    if not quiet:
        console().print(
            f"{made.package.path}  {bytes_text(made.added_bytes)} more; "
            f"loads in {made.seconds:.2f} s, {package} in {made.seconds_before:.2f} s"
        )
