"""Text to measure accuracy on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.plugins import registry

__all__ = ["Text", "built_in_text", "read_text"]

HELD_OUT = "heldout.txt"


@dataclass(frozen=True)
class Text:
    """What to measure on; `name` is for people."""

    name: str
    content: str


def built_in_text() -> Text:
    """The held-out text that ships with an embedded model: Python source."""
    for model, folder in registry.embedded_models().items():
        if (folder / HELD_OUT).is_file():
            return Text(f"held-out text of {model}", (folder / HELD_OUT).read_text(encoding="utf-8"))
    raise EnvironmentProblem("no embedded model brings a held-out text", hint="Give one with --data FILE.")


def read_text(path: Path) -> Text:
    """The text file at `path`. `BadInput` where it is missing, not UTF-8 or empty."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a text file: {error}") from error
    if not content.strip():
        raise BadInput(f"{path} is empty")
    return Text(path.name, content)
