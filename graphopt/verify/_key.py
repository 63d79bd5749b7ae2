"""What tells a window from those that are not of its kind: all but which weights of the source they use."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from graphopt.ir import Expr, FileRange, InMemory, read_since

if TYPE_CHECKING:
    from graphopt.verify._window import Piece

__all__ = ["Known", "key_of"]


class Known:
    """Stored weights by number, as far as nothing depends on what they hold."""

    def __init__(self, reads_since: int) -> None:
        self.by_content = False
        self.complete = False
        self._since = reads_since
        self._ranges: list[FileRange] = []

    def token(self, stored: FileRange) -> Hashable:
        """Numbers and a size for a weight that was there before and was not read, else its identity."""
        if not self.complete and not any(stored.identity == known.identity for known in self._ranges):
            self._ranges.append(stored)
        parts = self._parts(stored)
        if parts is None or any(read_since(part, self._since) for part in (stored, *parts.values())):
            self.by_content = True
            return stored.identity
        return ("stored", *parts, stored.dtype, stored.shape)

    def _parts(self, stored: FileRange) -> dict[int, FileRange] | None:
        """The known ranges, by number, that it is made of: neighbours in a file may have been joined."""
        found: dict[int, FileRange] = {}
        position, end = stored.offset, stored.offset + stored.length
        while position < end:
            for number, known in enumerate(self._ranges):
                same = (known.path, known.stamp, known.offset) == (stored.path, stored.stamp, position)
                if same and 0 < known.length <= end - position:
                    found[number] = known
                    position += known.length
                    break
            else:
                return None
        return found


def key_of(pieces: Sequence[Piece], leaves: Sequence[object], outputs: Sequence[object], known: Known) -> str:
    total = hashlib.sha256(repr((leaves, outputs)).encode())
    for piece in pieces:
        total.update(piece.model)
        tokens = [(name, w.fed, _token(w.expr, known)) for name, w in piece.weights.items()]
        total.update(repr(tokens).encode())
        known.complete = True  # what only the replacement has, the pass made
    return total.hexdigest()


def _token(expr: Expr, known: Known) -> Hashable:
    """What tells a weight from those that are not of its kind."""
    if isinstance(expr, FileRange):
        return known.token(expr)
    if isinstance(expr, InMemory) or not expr.sources:
        return expr.identity
    kind = type(expr)
    held = expr.mapped(lambda source: _token(source, known))
    return (f"{kind.__module__}.{kind.__qualname__}", repr((held, expr.shape, expr.dtype)))
