"""Which nodes of the source a node of the result stands for, from the edits in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.pipeline import EditRecord, PassRecord

__all__ = ["Made", "history"]


@dataclass(frozen=True)
class Made:
    """What a node comes from: the edit (STEP:NUMBER) that made it, those that made what that edit took away,
    and so on, in the order they ran; and the names of the nodes of the source that all of it began with."""

    edit: str
    through: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def edits(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.through, self.edit)


def history(records: Iterable[PassRecord]) -> dict[str, Made]:
    """By name every node that an edit made and none took away again, `records` being those of one graph.

    A node that an edit puts in the place of one of the same name comes from that one alone.
    """
    known: dict[str, Made] = {}
    for record in records:
        for edit in record.edits:
            if edit.removed or edit.made:
                _apply(known, f"{record.step}:{edit.number}", edit)
    return known


def _apply(known: dict[str, Made], name: str, edit: EditRecord) -> None:
    old = {removed: known.pop(removed, None) for removed in edit.removed}
    together = _joined(name, old)
    for made in edit.made:
        known[made] = _joined(name, {made: old[made]}) if made in old else together


def _joined(name: str, old: dict[str, Made | None]) -> Made:
    sources = [source for removed, made in old.items() for source in (made.sources if made else (removed,))]
    edits = dict.fromkeys(edit for made in old.values() if made for edit in made.edits)
    return Made(name, tuple(edits), tuple(dict.fromkeys(sources)))
