"""How the feeds and results of a model before a pass map to those after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.interface._function import Arrays

__all__ = [
    "Adapter",
    "AddedInput",
    "DroppedInput",
    "adapt_feeds",
    "adapt_results",
    "adapter_kind",
]

_KINDS: dict[str, type[Adapter]] = {}


@dataclass(frozen=True)
class Adapter:
    """Turns the old interface's feeds into the new one's. Subclasses are frozen dataclasses with a `kind`.

    A package names the kind, and whoever opens it finds the subclass: a plugin's where that is installed.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" not in vars(cls):
            return
        known = _KINDS.setdefault(cls.kind, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"there is an adapter of kind {cls.kind!r} already, in {known.__module__}")
        _KINDS[cls.kind] = cls

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        """New feeds from old ones."""
        raise NotImplementedError

    def results(self, new: Arrays) -> dict[str, np.ndarray]:
        """Old results from new ones."""
        return dict(new)

    def to_json(self) -> dict[str, Any]:
        """Its kind and fields."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Adapter:
        """The adapter with these fields, as they are after a way through JSON."""
        return cls(**{name: _without_lists(value) for name, value in fields.items()})


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list) else value


@dataclass(frozen=True)
class DroppedInput(Adapter):
    """`name` is no longer an input: what it said follows from the others."""

    kind: ClassVar[str] = "dropped-input"
    name: str

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        return {k: v for k, v in old.items() if k != self.name}


@dataclass(frozen=True)
class AddedInput(Adapter):
    """`name` is a new int64[len(value)] input; the old behaviour is had by feeding `value`."""

    kind: ClassVar[str] = "added-input"
    name: str
    value: tuple[int, ...]

    def feeds(self, old: Arrays) -> dict[str, np.ndarray]:
        return {self.name: np.asarray(self.value, np.int64), **old}


def adapter_kind(kind: object) -> type[Adapter] | None:
    """The subclass of this `kind`, if one was imported so far."""
    return _KINDS.get(kind) if isinstance(kind, str) else None


def adapt_feeds(adapters: Sequence[Adapter], feeds: Arrays) -> dict[str, np.ndarray]:
    """Feeds for the package, from feeds for the source's interface, through every adapter in order."""
    new = dict(feeds)
    for adapter in adapters:
        new = adapter.feeds(new)
    return new


def adapt_results(adapters: Sequence[Adapter], results: Arrays) -> dict[str, np.ndarray]:
    """Results of the source's interface, from the package's, through every adapter from the last on."""
    old = dict(results)
    for adapter in reversed(adapters):
        old = adapter.results(old)
    return old
