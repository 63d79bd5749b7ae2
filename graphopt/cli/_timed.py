"""A report with what each part of its graphs takes here."""

from __future__ import annotations

from graphopt.errors import GraphoptError
from graphopt.package import RunnablePackage
from graphopt.report import Report

__all__ = ["timed"]


def timed(report: Report, package: RunnablePackage, source: RunnablePackage | None = None) -> Report:
    """`report` on `package` with seconds by part, and before where `source`, as it is exported, is given.

    Where they cannot be measured a note of the report says why.
    """
    from graphopt.evaluate import profile

    if not report.views:
        return report
    try:
        return report.timed(profile(package), None if source is None else profile(source))
    except GraphoptError as error:
        why = str(error).partition("\n")[0]
        return report.model_copy(update={"notes": [*report.notes, f"Parts were not timed: {why}."]})
