"""Finds the commands and the links in a Markdown document."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]+)")


class Block(NamedTuple):
    """A fenced block: its first line's number, its language, its text, and why it is not run (or None)."""

    line: int
    language: str
    text: str
    reason: str | None


def blocks(document: str) -> Iterator[Block]:
    """Every fenced block that names a language."""
    for match in _FENCE.finditer(document):
        line = document.count("\n", 0, match.start("text")) + 1
        yield Block(line, match["language"], match["text"], match["reason"])


def runnable(block: Block) -> str | None:
    """The block as a shell script that stops at the first failure; None where there is nothing to run.

    `make VERB` becomes a dry run: the verb has to exist, and the verbs themselves run elsewhere.
    """
    if block.reason:
        return None
    if block.language == "sh":
        return re.sub(
            r"^make ", 'make --dry-run --directory "$ROOT" >/dev/null ', block.text, flags=re.MULTILINE
        )
    if block.language == "python":
        return f"python -c {shlex.quote(block.text)}\n"
    return None


def broken_links(path: Path) -> list[str]:
    """Relative links of the document at `path` that lead nowhere."""
    targets = (match["path"] for match in _LINK.finditer(path.read_text()))
    return [target for target in targets if not (path.parent / target).exists()]
