"""What a model with a head is measured on: calls of one example or a few, and what the data says of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput
from graphopt.evaluate._bindings import SEED, Bindings, Undecided
from graphopt.families import Case, InputDomain, meeting
from graphopt.interface import Arrays, Interface
from graphopt.io import digest_of, read_arrays
from graphopt.package import RunnablePackage

__all__ = ["Call", "Example", "Examples", "digest_of_arrays", "random_examples", "read_examples"]

EXAMPLES = 64
"""Random inputs that a head is measured on: seconds of a small model, for intervals that are not narrow."""
_CHANNELS = (1, 3, 4)
"""Of an image: grey, colours, colours with transparency."""
_TRUTHS = ("labels", "boxes")
"""Arrays of an .npz file that are no inputs."""


@dataclass(frozen=True)
class Example:
    """One input, and what is known of it.

    `name` is a digest of both. `places` bool[S] are the tokens that count (None: all that there are).
    `labels` are int64: [1] or by class [C] of a whole input, [S] of tokens (-100: none), [objects] of `boxes`
    float[objects, 4], [2] of the first and the last token of an answer. `answers` are texts that answer a
    question, and `context` with `characters` (begin, end by token) is where they stand.
    """

    name: str
    domain: str = ""
    places: NDArray[np.bool_] | None = None
    labels: NDArray[np.int64] | None = None
    boxes: NDArray[Any] | None = None
    answers: tuple[str, ...] | None = None
    context: str = ""
    characters: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Call:
    """Feeds of one call, and the example that each row of them is."""

    feeds: Arrays
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Examples:
    """Data to measure on: what it is called, its digest (empty: drawn at random), and calls."""

    name: str
    digest: str
    calls: tuple[Call, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def labelled(self) -> bool:
        """Whether the data says what is right."""
        first = self.calls[0].examples[0]
        return first.labels is not None or first.answers is not None


def read_examples(path: Path, interface: Interface) -> Examples:
    """The examples in an .npz file: an array for each input, and `labels` and `boxes` if there are.

    The first axis is examples; each is a call of its own, but for a model whose batch is a fixed number.
    `BadInput` for arrays that are not this model's, or of several lengths.
    """
    arrays = read_arrays(path)
    inputs = {name: array for name, array in arrays.items() if name not in _TRUTHS}
    known = [spec.name for spec in interface.inputs]
    for name in dict.fromkeys([*known, *inputs]):
        if name not in inputs or name not in known:
            wrong = "no array" if name in known else "no input"
            raise BadInput(f"{path}: the model has {', '.join(known)}, and there is {wrong} {name!r}")
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    count = counts[known[0]]
    if min(counts.values()) != max(counts.values()) or count == 0:
        raise BadInput(
            f"{path}: arrays have different numbers of examples: {counts}",
            hint="The first axis of every array is examples, one at least.",
        )
    batch = _batch(interface, inputs)
    calls = tuple(_call(arrays, inputs, start, batch, count) for start in range(0, count, batch or 1))
    return Examples(path.name, digest_of(path), calls)


def _batch(interface: Interface, inputs: Arrays) -> int | None:
    """Examples of a call: a fixed number of them, one, or None where inputs have no axis for several."""
    first = interface.inputs[0]
    if len(first.dims) < inputs[first.name].ndim:
        return None
    return first.dims[0] if isinstance(first.dims[0], int) else 1


def _call(arrays: Arrays, inputs: Arrays, start: int, batch: int | None, count: int) -> Call:
    """The call from example `start` on; the last of fixed batches is filled up with the last example."""
    rows = np.arange(start, start + (batch or 1)).clip(max=count - 1)
    feeds = {name: array[rows] if batch else array[start] for name, array in inputs.items()}
    mask = inputs.get("attention_mask")
    examples = []
    for row in rows[: count - start]:
        own = {name: array[row] for name, array in arrays.items()}
        labels, boxes = own.get("labels"), own.get("boxes")
        examples.append(
            Example(
                digest_of_arrays(own),
                places=None if mask is None else mask[row] != 0,
                labels=None if labels is None else np.atleast_1d(labels).astype(np.int64),
                boxes=boxes,
            )
        )
    return Call(feeds, tuple(examples))


def random_examples(package: RunnablePackage, domain: InputDomain | None) -> Examples:
    """64 legal inputs or a few more, drawn at random; `BadInput` where nobody knows what is legal."""
    note = "measured on random inputs, which are not what the model is for; give some with --data"
    calls, rows, seed = [], 0, SEED
    while rows < EXAMPLES:
        for case in _cases(package, domain, seed):
            names = _row_names(package.interface(), case.feeds)
            rows += len(names)
            calls.append(Call(case.feeds, tuple(map(Example, names))))
        seed += 1
    return Examples("random legal inputs", "", tuple(calls), (note,))


def _cases(package: RunnablePackage, domain: InputDomain | None, seed: int) -> list[Case]:
    if domain is not None:
        cases = meeting(package.assumptions(), domain.cases(np.random.default_rng(seed)))
        found = [case for case in cases if case.padding == "none"]
    else:
        interface = package.interface()
        first = {
            spec.dims[0]: (1,) for spec in interface.inputs if spec.dims and isinstance(spec.dims[0], str)
        }
        try:
            found = list(Bindings(dims=first).cases(interface, seed=seed))
        except Undecided as reason:
            raise BadInput(
                f"legal inputs of {package.path} are unknown: {reason}",
                hint="Give some with --data FILE.npz.",
            ) from reason
    if not found:
        raise BadInput(
            f"{package.path} takes none of the inputs drawn", hint="Give some with --data FILE.npz."
        )
    return found


def _row_names(interface: Interface, feeds: Arrays) -> list[str]:
    """A digest of each row of `feeds`, or of all where they are one image without an axis for several."""
    first = interface.inputs[0]
    if len(first.dims) == 3 and first.dtype.startswith("float") and first.dims[0] in _CHANNELS:
        return [digest_of_arrays(feeds)]
    return [
        digest_of_arrays({name: a[row] for name, a in feeds.items()}) for row in range(len(feeds[first.name]))
    ]


def digest_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """`sha256:...` of arrays with their names."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}\0".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{total.hexdigest()}"
