"""What graphopt raises, and the process exit code each kind stands for. The codes are an interface."""

from __future__ import annotations

__all__ = ["BadInput", "CheckFailed", "EnvironmentProblem", "GraphoptError", "Inconclusive"]


class GraphoptError(Exception):
    """Base of every expected failure: `message` says what was wrong and where, `hint` what to do about it."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class CheckFailed(GraphoptError):
    """A verification, validation or gate said no."""

    exit_code = 1


class BadInput(GraphoptError):
    """The command line, a configuration or a model file is wrong, missing or unsupported."""

    exit_code = 2


class Inconclusive(GraphoptError):
    """The evidence does not decide the question."""

    exit_code = 3


class EnvironmentProblem(GraphoptError):
    """Something around graphopt is missing or broken: an extra, a provider, the network, an install."""

    exit_code = 4
