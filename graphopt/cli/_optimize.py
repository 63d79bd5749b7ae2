"""graphopt optimize."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from graphopt.cli._console import Say, console, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable
from graphopt.errors import Inconclusive

if TYPE_CHECKING:
    from graphopt.build import Package
    from graphopt.planner import PlannedPackage
    from graphopt.recipes import OptimizeOptions

__all__ = ["command"]

_AUTO = "auto"


@click.command("optimize")
@click.argument("source")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Folder to write.  [default: ./SOURCE-RECIPE]"
)
@click.option(
    "--target",
    metavar="NAME[,NAME...]",
    help="What the package shall run on, see `graphopt targets list`; of several, the first that can is used"
    " where it is loaded. [default: graphopt's first]",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE.toml",
    help="lossless, fp16, int8, int4, or a file; auto plans for this machine, and verifies. [default: int4"
    " for text generation, else lossless]",
)
@click.option(
    "--task",
    default="auto",
    show_default=True,
    help="What the model is for; `graphopt models list` shows what there is.",
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npz",
    help="Inputs for the closing check of an .onnx source.",
)
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=VALUES",
    help="Sizes a dimension may have, for the closing check of an .onnx source: batch=1,3. For targets that"
    " compile for known sizes, of any source, the one that it shall have: sequence=128.",
)
@click.option(
    "--calibration",
    metavar="PATH|MODULE:FUNCTION",
    help="What passes calibrate on: text, .jsonl or folder of documents, .npz files of inputs, or a function"
    " that gives either. [default: built-in Python source]",
)
@click.option(
    "--verify",
    type=click.Choice(["off", "structure", "numeric"]),
    default="numeric",
    show_default=True,
    help="What is checked after every pass: the graph's structure, and each edit by running it.",
)
@click.option(
    "--on-mismatch",
    type=click.Choice(["stop", "rollback"]),
    default="stop",
    show_default=True,
    help="What to do about an edit that changes results more than its pass promises.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PASS[#N].OPTION=VALUE",
    help="Set an option of a pass of the recipe.",
)
@click.option(
    "--budget",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Store weights so that kl_mean=0.02, package_bytes=700MB, bpw=4.25, tpot=20ms... is kept; may be"
    " repeated.",
)
@click.option(
    "--max-ram",
    metavar="SIZE",
    help="End with an error, at the next step or weight, once all processes together took more than SIZE"
    " (3GB); calibration spills to disk sooner.",
)
@click.option("--stop-after", metavar="PASS[#N][:EDIT]", help="Stop the recipe after this pass or edit.")
@click.option("--explain", metavar="PASS", help="Say where PASS almost matched, and why it did not.")
@click.option("--no-validate", is_flag=True, help="Leave out the closing check against the source.")
@click.option(
    "--no-cpu-fallback",
    is_flag=True,
    help="Exit code 2 where the target's execution provider leaves a node to the CPU provider; sessions of"
    " the package keep to it.",
)
@click.option(
    "--locked",
    type=click.Path(path_type=Path, exists=True),
    metavar="LOCK",
    help="Make the package of this graphopt.lock again, bit for bit, or say what differs.",
)
@click.option("--no-cache", is_flag=True, help="Continue from no earlier run, and keep nothing for the next.")
@click.option(
    "--requantize", is_flag=True, help="Round quantized weights again whose form no kernel reads as it is."
)
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@click.option("--force", is_flag=True, help="Replace the package that is at the output folder.")
@json_option
@quiet_option
@no_plugins_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    source: str,
    out: Path | None,
    explain: str | None,
    no_validate: bool,
    no_cpu_fallback: bool,
    no_cache: bool,
    json_file: str | None,
    quiet: bool,
    **asked: Any,
) -> None:
    """Make a fast, checked package from SOURCE.

    SOURCE is an existing Hugging Face folder, an .onnx or .gguf file, the name of an embedded model, or a hub
    id.

    The package is compared with its source at the end. Exit code 1: it differs by more than the recipe
    allows, and was not installed. 3: the comparison decides nothing.

    A run that was interrupted continues where it was when the same command is given again.
    """
    from graphopt.build import Rejected
    from graphopt.cli._plan_tables import print_checked
    from graphopt.plugins import registry
    from graphopt.recipes import OptimizeOptions
    from graphopt.report import Report, print_explanation, print_report

    options = OptimizeOptions(
        validate=not no_validate, cpu_fallback=not no_cpu_fallback, cache=not no_cache, **asked
    )
    if options.locked is not None:
        _refuse_decided(ctx)
    if explain is not None:
        registry.resolve("pass", explain, registry.passes())

    def show(report: Report, *, installed: bool) -> None:
        write_json(json_file, report.model_dump())
        if not quiet and json_file != "-":
            print_report(report, console(), installed=installed)
            if explain is not None:
                print_explanation(report, explain, console())

    try:
        with working(quiet) as say:
            package, planned = _made(source, out, options, say)
    except Rejected as rejected:
        show(rejected.report, installed=False)
        raise
    report = package.report()
    show(report, installed=True)
    if planned is not None and not quiet and json_file != "-":
        print_checked(planned, console())
    if report.closing.verdict == "inconclusive":
        click.echo(printable(f"inconclusive: {report.closing.reason}"), err=True)
        ctx.exit(Inconclusive.exit_code)


def _made(
    source: str, out: Path | None, options: OptimizeOptions, say: Say
) -> tuple[Package, PlannedPackage | None]:
    """The package, and where its recipe was planned what came of that."""
    from graphopt.build import optimize

    if options.recipe != _AUTO:
        return optimize(source, out, options=options, progress=say), None
    from graphopt.planner import made_by_plan

    planned = made_by_plan(source, out, options, progress=say)
    return planned.package, planned


def _refuse_decided(ctx: click.Context) -> None:
    """Raise `UsageError` for an option that the lock decides."""
    decided = (
        "target",
        "recipe",
        "task",
        "dims",
        "verify",
        "on_mismatch",
        "settings",
        "budget",
        "stop_after",
    )
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in (*decided, "no_validate", "no_cpu_fallback"):
            raise click.UsageError(
                f"{parameter.opts[-1]} cannot be given with --locked: the lock decides it."
            )
