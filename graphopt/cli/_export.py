"""graphopt export."""

from __future__ import annotations

from pathlib import Path

import click

from graphopt.cli._console import console, quiet_option, working
from graphopt.cli._plugins import no_plugins_option

__all__ = ["command"]


@click.command("export")
@click.argument("source")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--task", default="auto", show_default=True, help="What the model is for.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@click.option("--force", is_flag=True, help="Replace the package that is at the output folder.")
@quiet_option
@no_plugins_option
def command(source: str, out: Path, task: str, trust_remote_code: bool, force: bool, quiet: bool) -> None:
    """Make a package from SOURCE as the exporter leaves it: no pass runs, nothing is checked."""
    from graphopt.build import export_package
    from graphopt.report import bytes_text

    with working(quiet) as say:
        package = export_package(
            source, out, task=task, trust_remote_code=trust_remote_code, force=force, progress=say
        )
    if not quiet:
        size = sum(p.stat().st_size for p in package.path.rglob("*") if p.is_file())
        console().print(f"{package.path}  {package.manifest.task}, {bytes_text(size)}")
