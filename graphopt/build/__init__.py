"""The main job: a source through passes, target and closing check into a package."""

from graphopt.build._driver import DEFAULT_RECIPES, Rejected, configured, export_package, optimize
from graphopt.build._job import Choices, Clock, Job
from graphopt.build._package import Package

__all__ = [
    "DEFAULT_RECIPES",
    "Choices",
    "Clock",
    "Job",
    "Package",
    "Rejected",
    "configured",
    "export_package",
    "optimize",
]
