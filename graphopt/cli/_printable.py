"""Text of files that nobody vouches for, made fit to print."""

from __future__ import annotations

import re

__all__ = ["printable"]

# Control characters (C0 but tab and newline, DEL, C1), marks that reorder text, halves of surrogate pairs.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""`text` with whatever a terminal could take for a command spelled out, as in `\x1b`."""
    return _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)
