"""graphopt validate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from graphopt.evaluate import EncoderAccuracy, LanguageAccuracy, Validation

__all__ = ["command"]


@click.command("validate")
@click.argument("package", type=click.Path(path_type=Path))
@click.option("--reference", required=True, metavar="SOURCE", help="The source, or another package.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Text, .jsonl or folder of documents, or an .npz file of inputs. [default: built-in Python source]",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=16384,
    show_default=True,
    help="How much text, for language models.",
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the reference.")
@json_option
@quiet_option
@no_plugins_option
def command(
    package: Path,
    reference: str,
    data: Path | None,
    tokens: int,
    trust_remote_code: bool,
    json_file: str | None,
    quiet: bool,
) -> None:
    """Measure how much of its source is left in PACKAGE.

    Perplexity of both, KL divergence and top-1 agreement for language models, cosine for others, with 95 %
    intervals from resampling whole sequences, or the documents of the data.
    """
    from graphopt.build import Package

    loaded = Package.load(package)
    with working(quiet) as say:
        say(f"comparing {package} with {reference}")
        found = loaded.validate(reference, data=data, tokens=tokens, trust_remote_code=trust_remote_code)
    for warning in found.warnings:
        click.echo(f"{click.style('note:', fg='yellow')} {printable(warning)}", err=True)
    write_json(json_file, found.to_json())
    if not quiet and json_file != "-":
        _print(found)


def _print(found: Validation) -> None:
    from rich.text import Text

    from graphopt.evaluate import LanguageAccuracy
    from graphopt.report import plural

    out = console()
    out.print()
    out.print(Text.assemble((f" {found.package}", "bold"), " beside ", (found.reference, "bold")))
    result = found.result
    if isinstance(result, LanguageAccuracy):
        size = f"{result.tokens} tokens in {result.sequences} sequences of {found.data}"
        out.print(Text(f" {size}; intervals are 95 %", style="dim"))
        out.print()
        out.print(_language(result))
    else:
        calls = plural(result.calls, "call")
        out.print(Text(f" {calls}, {found.data}; intervals are 95 %", style="dim"))
        out.print()
        out.print(_encoder(result))


def _language(result: LanguageAccuracy) -> Table:
    from graphopt.cli._tables import estimates

    keys = ("perplexity_ratio", "kl_mean", "kl_p99", "top1_agreement")
    return estimates(
        {
            "perplexity, package": result.perplexity,
            "perplexity, reference": result.reference_perplexity,
            **{_label(key): getattr(result, key) for key in keys},
        }
    )


def _encoder(result: EncoderAccuracy) -> Table:
    from graphopt.cli._tables import estimates

    table = estimates({f"{name}, {_label('cosine_mean')}": e for name, e in result.cosine_mean.items()})
    for name, lowest in result.cosine_min.items():
        table.add_row(f" {name}, {_label('cosine_min')}", f"{lowest:.6g}", "")
    return table


def _label(key: str) -> str:
    from graphopt.metrics import METRICS

    metric = METRICS[key]
    return f"{metric.label}, {metric.unit}" if metric.unit else metric.label
