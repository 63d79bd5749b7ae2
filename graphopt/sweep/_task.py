"""Work that is done once, wherever there is room for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphopt.errors import BadInput, CheckFailed

__all__ = ["ANSWERS", "Outcome", "Task"]

ANSWERS = (BadInput.exit_code, CheckFailed.exit_code)
"""Errors of these codes come out the same again."""


@dataclass(frozen=True)
class Task:
    """A call that gives JSON: `function` is "module:name", `arguments` are JSON too, given by name.

    The digest of both, of the `sources` (models, as `graphopt optimize` takes them), and of the code behind
    them, is what its result is kept under, so that nothing is done twice. `cores` and `memory` (bytes) are
    what it may take. `alone`: no other task runs on the machine meanwhile, nodes of a cluster that share a
    host being one; what is timed is. Its result is kept for machines like this one. `about` is what people
    read.
    """

    function: str
    arguments: Mapping[str, Any]
    sources: tuple[str, ...] = ()
    cores: float = 1
    memory: int = 0
    alone: bool = False
    about: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a task: a `value`, or the `error` that it ended with.

    `known`: an earlier run had it. `seconds` are what the call took, `waited` what it stood idle before,
    until the machine was free for it. `failures` count calls that failed by themselves, `lost` those that
    went with their node; `host` is where the one that counts ran. `code`: the exit code that the error
    stands for.
    """

    task: Task
    value: Any = None
    error: str | None = None
    code: int = 0
    known: bool = False
    seconds: float = 0.0
    waited: float = 0.0
    host: str = ""
    failures: int = 0
    lost: int = 0

    @property
    def final(self) -> bool:
        """Whether the same would come of it again: not of a full disk, a process that was killed, a bug."""
        return self.error is None or self.code in ANSWERS
