"""graphopt validate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._agreement import print_agreement
from graphopt.cli._console import console, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from graphopt.build import Package
    from graphopt.evaluate import EncoderAccuracy, LanguageAccuracy, Validation

__all__ = ["command"]


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names of targets, each once. `BadParameter` for an empty one."""
    if value is None:
        return ()
    names = [name.strip() for name in value.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise click.BadParameter(f"{value!r} is not a list of different targets")
    return tuple(names)


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
    help="How much text, for language models. [default: 16384; with --targets 4096]",
)
@click.option(
    "--targets",
    metavar="T[=PACKAGE],...",
    callback=_names,
    help="Compare these targets with the reference and with each other; =PACKAGE where another one was made"
    " for it.",
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the reference.")
@json_option
@quiet_option
@no_plugins_option
def command(
    package: Path,
    reference: str,
    data: Path | None,
    tokens: int | None,
    targets: tuple[str, ...],
    trust_remote_code: bool,
    json_file: str | None,
    quiet: bool,
) -> None:
    """Measure how much of its source is left in PACKAGE.

    Perplexity of both, KL divergence and top-1 agreement for language models, cosine for others, with 95 %
    intervals from resampling whole sequences, or the documents of the data.

    With --targets the package runs on each of them, and every side is compared with every other: KL
    divergence, top-1 agreement and greedy answers of language models, cosine of others. A target that
    computes in less than float32 where the graph says float32 is named.
    """
    from graphopt.build import Package

    loaded = Package.load(package)
    options: dict[str, Any] = {"data": data, "trust_remote_code": trust_remote_code}
    options |= {} if tokens is None else {"tokens": tokens}
    if targets:
        with working(quiet) as say:
            agreement = loaded.compare_targets(reference, targets, say=say, **options)
        _warn(agreement.warnings)
        write_json(json_file, agreement.to_json())
        if not quiet and json_file != "-":
            print_agreement(agreement)
        return
    with working(quiet) as say:
        say(f"comparing {package} with {reference}")
        found = loaded.validate(reference, **options)
    _warn(found.warnings)
    write_json(json_file, found.to_json())
    if not quiet and json_file != "-":
        _print(found)
        _print_coverage(loaded)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"{click.style('note:', fg='yellow')} {printable(warning)}", err=True)


def _print_coverage(package: Package) -> None:
    """Where nodes run, if the target is one that leaves some to others."""
    from graphopt.evaluate import coverage
    from graphopt.report import CoverageReport, coverage_text
    from graphopt.runtime import CPU

    if package.target().provider == CPU:
        return
    for role, one in coverage(package, timed=False).items():
        console().print()
        console().print(coverage_text(role, CoverageReport.of(one)))


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
