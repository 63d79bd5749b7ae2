"""Many trials, each done once, on the machines that there are."""

from graphopt.sweep._task import Task

__all__ = ["Task"]
