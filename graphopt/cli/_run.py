"""graphopt run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable
from graphopt.errors import BadInput

if TYPE_CHECKING:
    from graphopt.package import Package

__all__ = ["command"]


@click.command("run")
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("prompt", required=False)
@click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Where to stop."
)
@click.option("--chat", is_flag=True, help="Wrap the prompt in the model's chat template.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest token; above it, one is drawn.",
)
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the likeliest tokens with this probability together.",
)
@click.option("--seed", type=int, help="Makes drawing repeatable.")
@click.option("--speculate", is_flag=True, help="Draft what the text said before; the same text, faster.")
@click.option("--threads", type=click.IntRange(1, 1024), help="[default: what this process may use]")
@click.option(
    "--inputs", type=click.Path(path_type=Path), metavar="FILE.npz", help="Inputs by name, for other models."
)
@click.option(
    "--outputs", type=click.Path(path_type=Path), metavar="FILE.npz", help="Where to write the outputs."
)
@no_plugins_option
def command(
    package: Path,
    prompt: str | None,
    max_new_tokens: int,
    chat: bool,
    temperature: float,
    top_p: float,
    seed: int | None,
    speculate: bool,
    threads: int | None,
    inputs: Path | None,
    outputs: Path | None,
) -> None:
    """Generate text from PROMPT (- reads it from stdin), or run PACKAGE on the arrays of an .npz file."""
    from graphopt.package import Package

    if (inputs is None) != (outputs is None):
        raise click.UsageError("--inputs and --outputs go together")
    loaded = Package.load(package)
    if inputs is not None and outputs is not None:
        _run_on_arrays(loaded, inputs, outputs, threads)
        return
    pieces = loaded.stream(
        _prompt(prompt),
        max_new_tokens=max_new_tokens,
        chat=chat,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        speculate=speculate,
        threads=threads,
    )
    for piece in pieces:
        click.echo(printable(piece) if sys.stdout.isatty() else piece, nl=False)
    click.echo()


def _prompt(given: str | None) -> str:
    if given is None and sys.stdin.isatty():
        raise click.UsageError("Missing argument 'PROMPT'.")
    return sys.stdin.read() if given in (None, "-") else str(given)


def _run_on_arrays(package: Package, inputs: Path, outputs: Path, threads: int | None) -> None:
    import numpy as np

    from graphopt._arrays import parts_of, read_arrays
    from graphopt.report import plural

    if not outputs.absolute().parent.is_dir():
        raise BadInput(f"the folder of {outputs} does not exist")
    found = package.run(read_arrays(inputs), threads=threads)
    results = {name: array for output in found.items() for name, array in parts_of(*output)}
    np.savez(
        outputs,
        allow_pickle=False,
        **{n: a.astype(str) if a.dtype == object else a for n, a in results.items()},
    )
    for name, array in results.items():
        click.echo(f"{printable(name)}  {array.dtype}{list(array.shape)}")
    click.echo(f"{plural(len(results), 'output')} written to {outputs}", err=True)
