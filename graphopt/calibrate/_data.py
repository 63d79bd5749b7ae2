"""Legal calls of a model with real content, to calibrate on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.families import InputDomain
from graphopt.interface import Interface, TensorSpec

__all__ = ["CalibrationData", "Feeds", "from_arrays", "from_windows"]

Feeds = Mapping[str, NDArray[Any]]
_BATCH = 8
"""Samples of a call, where samples can be put together as one likes."""


@dataclass(frozen=True)
class CalibrationData:
    """Calls of a model, as feeds by the names of its inputs.

    `name` is what people call the data and `digest` says what is in it: equal digests, equal calls. `rows` is
    how many there are in all of what `unit` names: tokens, or samples of a model that takes no text.
    `content` is the digest of what the calls were made from, and `file` where that lies, if it is a file.
    `windows` are the texts that the calls read, as tokens int64[S].
    """

    name: str
    digest: str
    calls: tuple[Feeds, ...]
    rows: int
    unit: str = "tokens"
    content: str = ""
    file: str = ""
    windows: tuple[NDArray[np.int64], ...] = ()

    def __iter__(self) -> Iterator[Feeds]:
        return iter(self.calls)

    def described(self) -> dict[str, str]:
        """What tells it from other data, for the lock and the manifest."""
        return {"name": self.name, "digest": self.digest, "content": self.content, "file": self.file}

    def require(self, rows: int, what: str) -> None:
        """Raise `BadInput` where there are fewer than `rows`, which `what` needs: "GPTQ", say."""
        if self.rows < rows:
            raise BadInput(
                f"{self.name} is too short to calibrate on: {what} needs {rows} {self.unit}, "
                f"it has {self.rows}",
                hint="Give more with --calibration.",
            )

    def in_steps(self, domain: InputDomain, steps: int) -> CalibrationData | None:
        """The same texts; the last `steps` tokens of each are calls that go on from the one before.

        None where a model of this `domain` reads no text, or not in steps.
        """
        calls = []
        for window in self.windows:
            start = max(1, len(window) - steps)
            parts = [(0, start), *((i, i + 1) for i in range(start, len(window)))]
            for begin, end in parts:
                feeds = domain.reading(window[None, begin:end], begin)
                if feeds is None:
                    return None
                calls.append(feeds)
        return replace(self, digest=_digest(calls), calls=tuple(calls)) if calls else None


def from_windows(
    name: str, windows: Iterable[NDArray[np.int64]], domain: InputDomain
) -> CalibrationData | None:
    """Calls that read a text of tokens int64[S] each. None where a model of this `domain` reads no text."""
    kept = tuple(windows)
    calls = []
    for window in kept:
        feeds = domain.reading(window[None])
        if feeds is None:
            return None
        calls.append(feeds)
    return CalibrationData(name, _digest(calls), tuple(calls), sum(map(len, kept)), windows=kept)


def from_arrays(name: str, arrays: Iterable[Feeds], interface: Interface) -> CalibrationData:
    """Calls with `arrays`, samples of which are taken a few at a time where the first dimension varies.

    `BadInput` where they do not fit the `interface`.
    """
    calls: list[Feeds] = []
    rows = 0
    for feeds in arrays:
        given = _fitting(name, feeds, interface)
        count = min((len(array) for array in given.values() if array.ndim), default=1)
        firsts = [spec.dims[0] if spec.dims else 0 for spec in interface.inputs]
        rows += count
        if firsts and isinstance(firsts[0], str) and set(firsts) == {firsts[0]}:
            if {len(array) for array in given.values()} != {count}:
                sizes = ", ".join(f"{key}: {len(array)}" for key, array in given.items())
                raise BadInput(f"{name} has different numbers of samples for the inputs: {sizes}")
            starts = range(0, count, _BATCH)
            calls += [{key: a[i : i + _BATCH] for key, a in given.items()} for i in starts]
        else:
            calls.append(given)
    if not rows:
        raise BadInput(f"{name} has no samples to calibrate on")
    return CalibrationData(name, _digest(calls), tuple(calls), rows, unit="samples")


def _fitting(name: str, feeds: Feeds, interface: Interface) -> dict[str, NDArray[Any]]:
    known = {spec.name: spec for spec in interface.inputs}
    takes = f"It takes {', '.join(map(_described, interface.inputs))}."
    for key in feeds:
        if key not in known:
            raise BadInput(f"{name}: the model has no input {key!r}", hint=takes)
    for key, spec in known.items():
        if key not in feeds:
            raise BadInput(f"{name} has no array for the input {key!r}", hint=takes)
        array = np.asarray(feeds[key])
        fits = array.ndim == len(spec.dims) and all(
            not isinstance(dim, int) or dim == size for dim, size in zip(spec.dims, array.shape, strict=True)
        )
        if not fits or str(array.dtype) != spec.dtype:
            raise BadInput(
                f"{name}: {key!r} is {array.dtype}{list(array.shape)}, which the model does not take",
                hint=takes,
            )
    return {key: np.asarray(feeds[key]) for key in known}


def _described(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.dtype}[{', '.join('?' if d is None else str(d) for d in spec.dims)}]"


def _digest(calls: Iterable[Feeds]) -> str:
    content = hashlib.sha256()
    for feeds in calls:
        for key in sorted(feeds):
            array = feeds[key]
            content.update(f"{key} {array.dtype} {array.shape}".encode())
            content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()
