"""What a rule says, and what it finds."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from graphopt.lint._subject import Subject
from graphopt.recipes import Step

__all__ = ["CODE", "Finding", "Rule", "Severity", "rule"]

Severity = Literal["error", "warning", "note"]
"""error: it does not run, or gives other numbers than it says. warning: it takes longer, or more memory, than
it need. note: it does so for some, or on some machines."""

CODE = re.compile(r"[A-Z]{2,8}\d{3}")
"""Of a rule. graphopt's own begin with GO; a plugin's with letters of its own."""


@dataclass(frozen=True)
class Finding:
    """One place where a rule found something: `file` within the folder, `node` where it is one, and what."""

    file: str
    node: str
    text: str


Find = Callable[[Subject], Iterable[Finding]]


@dataclass(frozen=True, eq=False)
class Rule:
    """A cliff, or a miscompile, and how to find it.

    `code` never changes, and is never used again for something else. `summary` is one line, and `why` says
    what it costs, with where the number is from. `mends` are the steps whose passes take it away; without
    any, or where they do not match, `remedy` says what to do. `find` gives each place once.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    why: str
    remedy: str
    find: Find
    mends: tuple[Step, ...] = ()


def rule(
    code: str, name: str, severity: Severity, *, mends: Sequence[str | Step] = ()
) -> Callable[[Find], Rule]:
    """Makes a rule of a function that finds; its docstring has three parts, with empty lines between.

    The first line is the summary, the last paragraph the remedy, and what is between them is why.
    """
    steps = tuple(Step(step) if isinstance(step, str) else step for step in mends)

    def make(find: Find) -> Rule:
        parts = [" ".join(part.split()) for part in (inspect.getdoc(find) or "").split("\n\n")]
        if len(parts) < 3:
            raise ValueError(f"the docstring of rule {code} needs a summary, a reason and a remedy")
        summary, *why, remedy = parts
        return Rule(code, name, severity, summary, "\n\n".join(why), remedy, find, steps)

    return make
