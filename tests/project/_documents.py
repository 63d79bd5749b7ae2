"""Finds the commands and the links in a Markdown document."""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run|file): (?P<value>.+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NAME = re.compile(r"\bgraphopt(?:\.[A-Za-z_]\w*)+")
_PATH = re.compile(r"(?<![\w./-])graphopt(?:/[\w.]*\w)+")
_NO_NAMES = re.compile(
    r"graphopt\.(toml|json|lock|passes|models|mismatch|restart_at|gates|gitlab|schema)\b"
)  # files, groups, keys
_LINK = re.compile(r"\]\((?!\w+:)(?P<path>[^)#\s]+)")


class Block(NamedTuple):
    """A fenced block: its first line's number, its language and text, and the mark on the line before it.

    `<!-- not run: reason -->` keeps a block from being run; `<!-- file: path -->` makes it a file's content.
    """

    line: int
    language: str
    text: str
    mark: str | None = None
    value: str | None = None


def blocks(document: str) -> Iterator[Block]:
    """Every fenced block that names a language."""
    for match in _FENCE.finditer(document):
        line = document.count("\n", 0, match.start("text")) + 1
        yield Block(line, match["language"], match["text"], match["mark"], match["value"])


def runnable(block: Block) -> str | None:
    """The block as a shell script; None where there is nothing to run.

    `make VERB` becomes a dry run: the verb has to exist, and the verbs themselves run elsewhere.
    """
    match block:
        case Block(mark="not run"):
            return None
        case Block(mark="file", value=str(path), text=text):
            quoted = shlex.quote(path)
            return f'mkdir -p "$(dirname {quoted})"\nprintf %s {shlex.quote(text)} > {quoted}\n'
        case Block(language="sh", text=text):
            return re.sub(
                r"^make ", 'make --dry-run --directory "$ROOT" >/dev/null ', text, flags=re.MULTILINE
            )
        case Block(language="python", text=text):
            return f"python -c {shlex.quote(text)}\n"
    return None


def unknown_names(text: str, root: Path) -> list[str]:
    """Names `graphopt.x.y` and paths `graphopt/x` in a document that are not there, or no more."""
    names = {name for name in _NAME.findall(text) if not _NO_NAMES.match(name)}
    paths = {path for path in _PATH.findall(text) if not (root / path).exists()}
    return sorted(paths | {name for name in names if not _is_there(name)})


def _is_there(name: str) -> bool:
    parent, _, last = name.rpartition(".")
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
        return True
    with contextlib.suppress(ImportError):
        return hasattr(importlib.import_module(parent), last)
    head, _, attribute = parent.rpartition(".")  # of a class
    with contextlib.suppress(ImportError):
        return hasattr(getattr(importlib.import_module(head), attribute, None), last)
    return False


def broken_links(path: Path) -> list[str]:
    """Relative links of the document at `path` that lead nowhere."""
    targets = (match["path"] for match in _LINK.finditer(path.read_text()))
    return [target for target in targets if not (path.parent / target).exists()]
