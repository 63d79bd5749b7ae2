"""The files that a gate's result is written to, for whoever reads it next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from graphopt.cli._timed import timed
from graphopt.gate import badge, code_quality, comment, junit, samples_jsonl, sarif, step_summary
from graphopt.package import RunnablePackage
from graphopt.report import REPORT, GateReport, Report, write_page

__all__ = ["write_files"]


def write_files(
    report: GateReport,
    package: RunnablePackage,
    files: Mapping[str, Path | None],
    source: RunnablePackage | None = None,
) -> None:
    """Write `report` on `package` to each of the `files` that is a path, by the name of its option.

    A page shows what parts of the package's graphs take here, and of `source`, as it is exported, if given.
    """
    made = _made(package)
    texts: dict[str, Callable[[], str]] = {
        "junit": lambda: junit(report),
        "sarif": lambda: sarif(report, *made),
        "code_quality": lambda: code_quality(report),
        "markdown": lambda: step_summary(report),
        "comment": lambda: comment(report),
        "badge": lambda: badge(report),
        "samples": lambda: samples_jsonl(report),
    }
    for name, path in files.items():
        if path is not None and name in texts:
            path.write_text(texts[name](), encoding="utf-8")
    if (page := files.get("html")) is not None:
        reports = [timed(one, package, source) for one in made]
        write_page(page, title=f"{package.path.name}: gate", reports=reports, gate=report)


def _made(package: RunnablePackage) -> list[Report]:
    """What was written when the package was made, if it still says."""
    try:
        return [Report.model_validate_json((package.path / REPORT).read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return []
