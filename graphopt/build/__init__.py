"""The main job: a source through passes, target and closing check into a package."""

from graphopt.build._clock import Clock
from graphopt.build._configure import chosen_target, configured, default_recipe
from graphopt.build._documents import write_documents
from graphopt.build._driver import Rejected, decide, export_package, optimize
from graphopt.build._inputs import FileDigests
from graphopt.build._job import Job
from graphopt.build._lint import LintReport, lint, mend
from graphopt.build._package import Package

__all__ = [
    "Clock",
    "FileDigests",
    "Job",
    "LintReport",
    "Package",
    "Rejected",
    "chosen_target",
    "configured",
    "decide",
    "default_recipe",
    "export_package",
    "lint",
    "mend",
    "optimize",
    "write_documents",
]
