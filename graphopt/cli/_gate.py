"""graphopt gate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, in_a_folder, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.errors import CheckFailed, Inconclusive

if TYPE_CHECKING:
    from graphopt.report import GateReport

__all__ = ["command"]

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT = click.Path(path_type=Path, dir_okay=False)
_OUTPUTS = ("junit", "sarif", "code_quality", "markdown", "comment", "html", "badge", "samples")


def _output(name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(name, type=_OUT, callback=in_a_folder, metavar="FILE", help=f"Write {what}.")


def _duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    from graphopt.gate import seconds

    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("gate")
@click.argument("package", type=click.Path(path_type=Path))
@click.option(
    "--baseline", required=True, metavar="PACKAGE|SOURCE|FILE.json", help="What it must not be worse than."
)
@click.option(
    "--reference", metavar="SOURCE", help="What accuracy is measured against. [default: the baseline]"
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar='"METRIC OP BOUND"',
    help='As "kl_mean <= 0.02", "tpot <= 1.05x".',
)
@click.option(
    "--config", type=_FILE, metavar="FILE.toml", help="[default: ./graphopt.toml, else ./pyproject.toml]"
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE|DIR",
    help="Text, .jsonl, a folder of texts, or .npz. [default: built-in Python source]",
)
@click.option(
    "--calibration", type=click.Path(path_type=Path, exists=True), help="Text that --data must not repeat."
)
@click.option(
    "--inputs", type=_FILE, metavar="FILE.npz", help="What a model that generates no text is timed on."
)
@click.option(
    "--tasks",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE.yaml|DIR",
    help="Tasks of lm-eval's for task_accuracy, run from files here.",
)
@click.option("--tokens", type=click.IntRange(min=2), help="How much text at most. [default: 16384]")
@click.option("--prompt-tokens", type=click.IntRange(min=1), help="[default: 256]")
@click.option("--new-tokens", type=click.IntRange(min=1), help="[default: 64]")
@click.option("--batch", type=click.IntRange(min=1), help="[default: 8]")
@click.option("--threads", type=click.IntRange(1, 1024), help="[default: what this process may use]")
@click.option(
    "--max-time",
    callback=_duration,
    metavar="TIME",
    help="The longest that speed is measured. [default: 2min]",
)
@click.option(
    "--inconclusive",
    type=click.Choice(["pass", "fail", "report"]),
    help="What undecided gates count as. [default: report, exit code 3]",
)
@click.option("--correction", type=click.Choice(["holm", "benjamini-hochberg"]), help="[default: holm]")
@_output("--junit", "JUnit XML")
@_output("--sarif", "SARIF 2.1.0")
@_output("--code-quality", "GitLab's code quality JSON")
@_output("--markdown", "a summary for a job's page")
@_output("--comment", "the body of a comment on a pull request")
@_output("--html", "a page for people")
@_output("--badge", "JSON for a badge of shields.io")
@_output("--samples", "what was measured as JSONL")
@click.option(
    "--record",
    "record_folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Add the result to a folder that `graphopt history` draws.",
)
@click.option("--annotations", type=click.Choice(["github"]), help="Print annotations for a workflow.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the reference.")
@json_option
@quiet_option
@no_plugins_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    package: Path,
    baseline: str,
    reference: str | None,
    gates: tuple[str, ...],
    config: Path | None,
    record_folder: Path | None,
    annotations: str | None,
    trust_remote_code: bool,
    json_file: str | None,
    quiet: bool,
    **asked: Any,
) -> None:
    """Decide whether PACKAGE may ship: exit code 0 it may, 1 it may not, 3 the evidence does not decide.

    Gates are METRIC OP BOUND in [gates] of graphopt.toml, or in [tool.graphopt.gates] of pyproject.toml, or
    given here; without any, the budget of the package's recipe. A bound such as 1.05x is a multiple of the
    baseline's value. Speed is always measured beside the baseline, in turns; a stored result (--json of an
    earlier run) is a baseline for accuracy and size alone.
    """
    from graphopt.build import export_package
    from graphopt.cli._gate_files import write_files
    from graphopt.cli._gate_table import print_gate
    from graphopt.gate import GateOptions, gate, github_annotations, read_gates, record
    from graphopt.package import RunnablePackage

    files = {name: asked.pop(name) for name in _OUTPUTS}
    written = read_gates(config, gates, Path(), **asked)
    options = GateOptions(written, reference, files["html"] is not None, trust_remote_code)
    loaded = RunnablePackage.load(package)
    with working(quiet) as say, tempfile.TemporaryDirectory(prefix="graphopt-gate-") as scratch:
        as_exported = Path(scratch, "exported")

        def exported(source: str) -> Path:
            if not as_exported.exists():
                export_package(source, as_exported, trust_remote_code=trust_remote_code)
            return as_exported

        report = gate(loaded, baseline, options=options, as_package=exported, say=say)
        source = RunnablePackage.load(as_exported) if as_exported.exists() else None
        write_files(report, loaded, files, source)
    write_json(json_file, report.model_dump())
    if record_folder is not None:
        record(report, record_folder)
    if annotations is not None:
        click.echo(github_annotations(report), nl=False)
    if not quiet and json_file != "-":
        print_gate(report, console())
    if code := _exit_code(report):
        ctx.exit(code)


def _exit_code(report: GateReport) -> int:
    """As `inconclusive` says what an undecided gate counts as."""
    codes = {"pass": 0, "fail": CheckFailed.exit_code, "report": Inconclusive.exit_code}
    return codes[report.inconclusive if report.verdict == "inconclusive" else report.verdict]
