"""graphopt run."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from graphopt.cli._console import json_option, write_json
from graphopt.cli._numbers import FiniteRange
from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable
from graphopt.errors import BadInput

if TYPE_CHECKING:
    from graphopt.build import Package
    from graphopt.package import Prompt

__all__ = ["command"]


@click.command("run")
@click.argument("package", type=click.Path(path_type=Path))
@click.argument("prompts", nargs=-1, metavar="[PROMPT]...")
@click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=128, show_default=True, help="Where to stop."
)
@click.option("--chat", is_flag=True, help="Wrap the prompt in the model's chat template.")
@click.option("--system", metavar="TEXT", help="What the chat is told before the prompt; implies --chat.")
@click.option(
    "--messages",
    type=click.File("rb"),
    metavar="FILE",
    help='A chat so far, instead of a prompt: [{"role": "user", "content": "..."}, ...] in JSON.',
)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text, too. Can be repeated.")
@click.option(
    "--temperature",
    type=FiniteRange(min=0),
    default=0.0,
    show_default=True,
    help="0 takes the likeliest token; above it, one is drawn.",
)
@click.option(
    "--top-p",
    type=FiniteRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the likeliest tokens with this probability together.",
)
@click.option(
    "--repetition-penalty",
    type=FiniteRange(min=0, min_open=True),
    metavar="R",
    help="Above 1, tokens that are in the text become less likely. [default: what the model says]",
)
@click.option("--seed", type=int, help="Makes drawing repeatable.")
@click.option("--speculate", is_flag=True, help="Draft what the text said before; the same text, faster.")
@click.option(
    "--logprobs",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --json: the probability of each token, and of the N likeliest in its place.",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="[default: what this process may use]")
@click.option(
    "--inputs", type=click.Path(path_type=Path), metavar="FILE.npz", help="Inputs by name, for other models."
)
@click.option(
    "--outputs", type=click.Path(path_type=Path), metavar="FILE.npz", help="Where to write the outputs."
)
@json_option
@no_plugins_option
def command(
    package: Path,
    prompts: tuple[str, ...],
    messages: IO[bytes] | None,
    speculate: bool,
    logprobs: int | None,
    threads: int | None,
    inputs: Path | None,
    outputs: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Generate text from each PROMPT (- reads one from stdin), or run PACKAGE on the arrays of a file.

    Of a package for pictures or speech each PROMPT is a file: what is found in it is printed.
    """
    from graphopt.build import Package
    from graphopt.package import Answers, takes_files

    if (inputs is None) != (outputs is None):
        raise click.UsageError("--inputs and --outputs go together")
    loaded = Package.load(package)
    if inputs is not None and outputs is not None:
        _run_on_arrays(loaded, inputs, outputs, threads)
        return
    if logprobs is not None and json_file is None:
        raise click.UsageError("--logprobs needs --json")
    if takes_files(loaded):
        _run_on_files(loaded, prompts, threads, json_file)
        return
    asked = _asked(prompts, messages)
    answers, found = Answers(loaded, speculate=speculate, threads=threads), []
    for prompt in asked:
        answer = answers(prompt, logprobs=logprobs, **options)
        if json_file != "-":
            if len(asked) > 1:
                click.echo(f"==> {printable(str(prompt))} <==")
            for piece in answer:
                click.echo(printable(piece) if sys.stdout.isatty() else piece, nl=False)
            click.echo()
        found.append({"prompt": prompt, **dataclasses.asdict(answer.completion())})
    write_json(json_file, found)


def _asked(prompts: Sequence[str], messages: IO[bytes] | None) -> list[Prompt]:
    if messages is not None:
        if prompts:
            raise click.UsageError("--messages takes the place of PROMPT")
        return [_messages(messages)]
    if not prompts and sys.stdin.isatty():
        raise click.UsageError("Missing argument 'PROMPT'.")
    return [sys.stdin.read() if prompt == "-" else prompt for prompt in prompts or ("-",)]


def _messages(file: IO[bytes]) -> list[Any]:
    try:
        found = json.load(file)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file.name} is not JSON: {error}") from error
    if not isinstance(found, list):
        raise BadInput(f"{file.name} is not a list of messages")
    return found


def _run_on_files(package: Package, files: Sequence[str], threads: int | None, json_file: str | None) -> None:
    from graphopt.package import findings

    if not files:
        raise click.UsageError("Missing argument 'PROMPT': a picture or a sound file.")
    answers = []
    for file in files:
        found = findings(package, Path(file), threads=threads)
        answers.append({"file": file, "findings": [dataclasses.asdict(finding) for finding in found]})
        if json_file == "-":
            continue
        if len(files) > 1:
            click.echo(f"==> {printable(file)} <==")
        for finding in found:
            score = "" if finding.score is None else f"{finding.score:6.1%}  "
            box = "" if finding.box is None else "  at {}, {} to {}, {}".format(*finding.box)
            click.echo(f"{score}{printable(finding.text)}{box}")
        if not found:
            click.echo("nothing that is sure")
    write_json(json_file, answers)


def _run_on_arrays(package: Package, inputs: Path, outputs: Path, threads: int | None) -> None:
    import numpy as np

    from graphopt.io import parts_of, read_arrays
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
