"""What the user said legal inputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from graphopt.errors import BadInput
from graphopt.families import Case
from graphopt.interface import Interface, TensorSpec
from graphopt.io import digest_of, is_count, read_arrays

__all__ = ["DRAWS", "SEED", "Bindings", "Undecided"]


SEED = 0
"""Any one: two runs are compared on the same inputs."""

LARGEST = 1 << 30
"""Elements of an input that nobody gave, 8 GiB as they are drawn: more is a mistaken size."""

Draw = Callable[[np.random.Generator, Sequence[int]], np.ndarray]

RANDOM = "random inputs"

DRAWS: Mapping[str, Draw] = {
    RANDOM: lambda rng, shape: rng.standard_normal(shape),
    "random inputs between 0 and 1": lambda rng, shape: rng.random(shape),
    "ones": lambda _, shape: np.ones(shape),
}
"""Floats that nobody gave: a scale, a rate or a count may have to be positive, below 1 or whole."""


class Undecided(Exception):
    """Why no legal input is known."""


@dataclass(frozen=True)
class Bindings:
    """What the user said legal inputs of an .onnx file are: arrays by input, and sizes by dimension.

    `name` is what the arrays are called, where they are not a file's.
    """

    file: Path | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    dims: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def parse(cls, inputs: str | Path | None, dims: Sequence[str]) -> Bindings:
        """Read `inputs`, an .npz file, and `dims`, texts like "batch=1,3". Raises `BadInput`."""
        return cls(
            Path(inputs) if inputs else None, read_arrays(inputs) if inputs else {}, dict(map(_sizes, dims))
        )

    def files(self) -> dict[str, Path]:
        """The files this was read from, by their name in the lock."""
        return {f"--inputs {self.file.name}": self.file} if self.file else {}

    def digests(self) -> dict[str, object]:
        """What tells them from others."""
        files = {name: digest_of(path) for name, path in self.files().items()}
        return {"dims": self.dims, "files": files}

    def cases(self, interface: Interface, draw: str = RANDOM, *, seed: int = SEED) -> Iterator[Case]:
        """Calls of a model with `interface`; floats that no file gives are those of `DRAWS`, by `seed`."""
        self._check(interface)
        rng = np.random.default_rng(seed)
        for index in range(max(map(len, self.dims.values()), default=1)):
            sizes = {name: values[index % len(values)] for name, values in self.dims.items()}
            feeds = {spec.name: self._feed(spec, sizes, rng, DRAWS[draw]) for spec in interface.inputs}
            label = ", ".join(f"{name}={size}" for name, size in sizes.items())
            yield Case(label or self.name or (self.file.name if self.file else draw), feeds, {})

    def sizes(self, interface: Interface) -> dict[str, tuple[int, ...]]:
        """Legal sizes of the dimensions that vary: those that were said, and those that arrays have."""
        found = {
            str(dim): (size,)
            for spec in interface.inputs
            if spec.name in self.arrays
            for dim, size in zip(spec.dims, self.arrays[spec.name].shape, strict=True)
            if isinstance(dim, str)
        }
        return found | dict(self.dims)

    def guesses(self, interface: Interface) -> bool:
        """Whether values of some input are made up."""
        return any(spec.name not in self.arrays for spec in interface.inputs)

    def _check(self, interface: Interface) -> None:
        known = {spec.name for spec in interface.inputs}
        for name in self.arrays:
            if name not in known:
                raise BadInput(
                    f"{self.file}: the model has no input {name!r}", hint=f"It has {', '.join(known)}."
                )
        named = {d for spec in interface.inputs for d in spec.dims if isinstance(d, str)}
        for name in self.dims:
            if name not in named:
                raise BadInput(
                    f"--dim {name}: the model's inputs have no such dimension",
                    hint=f"They have {', '.join(sorted(named)) or 'none that varies'}.",
                )

    def _feed(
        self, spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator, draw: Draw
    ) -> np.ndarray:
        if spec.name in self.arrays:
            return self.arrays[spec.name]
        shape = []
        for dim in spec.dims:
            if not isinstance(dim, int) and dim not in sizes:
                raise Undecided(f"legal sizes of {spec.name}'s dimension {dim or '?'} are unknown")
            shape.append(dim if isinstance(dim, int) else sizes[str(dim)])
        if prod(shape) > LARGEST:
            raise Undecided(f"{spec.name} of shape {shape} has more elements than are made up")
        if spec.dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if not spec.dtype.startswith("float"):
            raise Undecided(f"legal values of the {spec.dtype} input {spec.name} are unknown")
        return draw(rng, shape).astype(spec.dtype)


def _sizes(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, values = text.partition("=")
    parts = [part.strip() for part in values.split(",")]
    if not name or not all(map(is_count, parts)):
        raise BadInput(f"--dim {text!r} is not of the form NAME=SIZE[,SIZE...]")
    return name.strip(), tuple(int(part) for part in parts)
