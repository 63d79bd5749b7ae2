"""graphopt lint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, in_a_folder, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.cli._printable import printable
from graphopt.errors import CheckFailed, Inconclusive

if TYPE_CHECKING:
    from rich.console import RenderableType

    from graphopt.build import LintReport
    from graphopt.lint import Finding, Rule

__all__ = ["command"]

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_SHOWN = 4  # places of a rule: the rest of a line
_DISTINCT = 3  # things that a rule says of them


@click.command("lint")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--target", help="What the model shall run on, see `graphopt targets list`. [default: graphopt's first]"
)
@click.option("--only", multiple=True, metavar="CODE", help="Look for this rule; may be repeated.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave this rule out; may be repeated.")
@click.option("--fix", is_flag=True, help="Make a package by the passes that mend what is found, verified.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Where --fix writes.  [default: ./MODEL-mended]"
)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE.npz",
    help="Inputs for the closing check of --fix.",
)
@click.option(
    "--dim",
    "dims",
    multiple=True,
    metavar="NAME=VALUES",
    help="Sizes a dimension may have, for the closing check of --fix: batch=1,3.",
)
@click.option("--force", is_flag=True, help="Replace the package that is where --fix writes.")
@click.option(
    "--sarif",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=in_a_folder,
    metavar="FILE",
    help="Write SARIF 2.1.0.",
)
@json_option
@quiet_option
@no_plugins_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    target: str | None,
    only: tuple[str, ...],
    ignore: tuple[str, ...],
    fix: bool,
    out: Path | None,
    inputs: Path | None,
    dims: tuple[str, ...],
    force: bool,
    sarif: Path | None,
    json_file: str | None,
    quiet: bool,
) -> None:
    """Find silent cliffs and known miscompiles in MODEL, an .onnx file or a package folder.

    Exit code 1: there are errors or warnings; notes alone count as none. With --fix the package that it makes
    is looked at again, and the exit code is about what is left there; 3 where legal inputs are not known, so
    that nobody compared it with MODEL.
    """
    from graphopt.build import lint, mend
    from graphopt.cli._lint_files import as_json, as_sarif
    from graphopt.recipes import OptimizeOptions

    if not fix and (out or inputs or dims or force):
        raise click.UsageError("-o, --inputs, --dim and --force are for --fix.")
    with working(quiet) as say:
        say("looking for what is slow or wrong")
        report = lint(model, target=target, only=only, ignore=ignore)
        package = left = None
        if fix:
            where = out or Path(f"{model.stem if model.is_file() else model.resolve().name}-mended")
            asked = OptimizeOptions(inputs=inputs, dims=dims, force=force)
            package = mend(model, where, report, options=asked, progress=say)
        if package is not None:
            left = lint(package.path, target=target, only=only, ignore=ignore)
    if sarif is not None:
        sarif.write_text(as_sarif(report), encoding="utf-8")
    write_json(json_file, as_json(report, left))
    if not quiet and json_file != "-":
        console().print(_rendered(report))
        if fix:
            console().print(_mended(report, left))
    verdict = package.manifest.closing_check if package is not None else ""
    if package is not None and not quiet and json_file != "-":
        console().print(f"{package.path}: compared with {model.name}: {verdict}")
    if _counts(left or report):
        ctx.exit(CheckFailed.exit_code)
    if package is not None and verdict == "inconclusive":
        click.echo(printable(f"inconclusive: {package.report().closing.reason}"), err=True)
        ctx.exit(Inconclusive.exit_code)


def _counts(report: LintReport) -> bool:
    return any(rule.severity != "note" for rule, _ in report.found)


def _rendered(report: LintReport) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from graphopt.report import plural

    looked = f"{plural(len(report.rules), 'rule')}, target {report.target}"
    if not report.found:
        return Text(f"{report.path}: nothing found ({looked})")
    parts: list[RenderableType] = []
    for rule, findings in report.by_rule():
        parts += [*_rule(rule, findings), Text()]
    kinds = plural(len(list(report.by_rule())), "rule")
    parts.append(Text(f"{report.path}: {kinds} found {plural(len(report.found), 'place')} ({looked})"))
    return Group(*parts)


def _rule(rule: Rule, findings: list[Finding]) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    from graphopt.report import plural

    severity = (rule.severity, _STYLES[rule.severity])
    head = Text.assemble((rule.code, "bold"), " ", severity, f"  {rule.summary}")
    said = list(dict.fromkeys(finding.text for finding in findings))
    more = f"; {len(said) - _DISTINCT} more kinds" if len(said) > _DISTINCT else ""
    places = list(dict.fromkeys(f"{finding.file}: {finding.node}".removesuffix(": ") for finding in findings))
    rest = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    mends = f"--fix: {', '.join(step.name for step in rule.mends)}" if rule.mends else rule.remedy
    where = f"{plural(len(findings), 'place')}: {', '.join(places[:_SHOWN])}{rest}"
    lines = (
        Text("; ".join(said[:_DISTINCT]) + more),
        Text(where, "cyan"),
        Text(rule.why, "dim"),
        Text(mends),
    )
    return [head, *(Padding(line, (0, 0, 0, 2)) for line in lines)]


def _mended(before: LintReport, after: LintReport | None) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if after is None:
        return Text("No pass mends any of it: nothing is written.")
    left = {rule.code: len(findings) for rule, findings in after.by_rule()}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("rule", no_wrap=True)
    for title in ("found", "mended", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what is to be done about the rest")
    for rule, findings in before.by_rule():
        rest = left.pop(rule.code, 0)
        todo = rule.remedy if rest else ""
        counts: list[Any] = [len(findings), max(len(findings) - rest, 0), rest]
        table.add_row(f"{rule.code} {rule.name}", *map(str, counts), todo)
    for rule, findings in after.by_rule():
        if rule.code in left:
            table.add_row(f"{rule.code} {rule.name}", "0", "0", str(len(findings)), rule.remedy)
    return table
