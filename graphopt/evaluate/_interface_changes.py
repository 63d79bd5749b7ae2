"""How inputs and outputs of two packages differ, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from graphopt.interface import Dim, Interface, TensorSpec

__all__ = ["interface_differences", "optional_inputs"]


def interface_differences(ours: Interface, baseline: Interface) -> list[str]:
    """What is not as in `baseline`, a sentence for each input or output: renamed, gone, new, dtype, shape.

    What a size that varies is called does not matter, which sizes vary together does: [batch, tokens] is
    [b, s], and is not [n, n].
    """
    symbols = _Symbols()
    return [
        sentence
        for what, mine, theirs in (
            ("input", ours.inputs, baseline.inputs),
            ("output", ours.outputs, baseline.outputs),
        )
        for sentence in _ports(what, mine, theirs, symbols)
    ]


def optional_inputs(model: ir.Model) -> list[str]:
    """The names of the inputs that have a default."""
    return [value.name or "" for value in model.graph.inputs if value.name in model.graph.initializers]


@dataclass
class _Symbols:
    """Which names of sizes stand for each other, learnt as they are met."""

    ours: dict[str, Dim] = field(default_factory=dict)
    theirs: dict[str, Dim] = field(default_factory=dict)

    def agree(self, mine: TensorSpec, other: TensorSpec) -> bool:
        """Whether the two shapes may be the same; if so, the names of their sizes stand for each other."""
        if len(mine.dims) != len(other.dims):
            return False
        ours, theirs = dict(self.ours), dict(self.theirs)
        for a, b in zip(mine.dims, other.dims, strict=True):
            if isinstance(a, int) or isinstance(b, int):
                if a != b:
                    return False
                continue
            if a is not None and ours.setdefault(a, b) != b:
                return False
            if b is not None and theirs.setdefault(b, a) != a:
                return False
        self.ours, self.theirs = ours, theirs
        return True


def _ports(
    what: str, ours: Sequence[TensorSpec], baseline: Sequence[TensorSpec], symbols: _Symbols
) -> Iterator[str]:
    mine, theirs = ({spec.name: spec for spec in side} for side in (ours, baseline))
    for name, spec in theirs.items():
        if name in mine:
            yield from _changes(what, mine[name], spec, symbols)
    renamed = _renamed(mine, theirs)
    for name, spec in theirs.items():
        if name in renamed:
            yield f"{what} {name} is renamed {renamed[name].name}"
            symbols.agree(renamed[name], spec)
        elif name not in mine:
            yield f"{what} {name} is gone"
    known = {spec.name for spec in renamed.values()}
    yield from (f"{what} {name} is new" for name in mine if name not in theirs and name not in known)


def _changes(what: str, mine: TensorSpec, other: TensorSpec, symbols: _Symbols) -> Iterator[str]:
    changes = [] if mine.dtype == other.dtype else [f"is {mine.dtype} instead of {other.dtype}"]
    if not symbols.agree(mine, other):
        changes.append(f"has shape {_shape(mine)} instead of {_shape(other)}")
    if changes:
        yield f"{what} {other.name} {' and '.join(changes)}"


def _renamed(mine: Mapping[str, TensorSpec], theirs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    """By old name what has a new one: those of one dtype and of as many, and the same, fixed sizes."""
    new = [spec for name, spec in mine.items() if name not in theirs]
    found = {}
    for name, spec in theirs.items():
        if name in mine:
            continue
        alike = next((other for other in new if _frame(other) == _frame(spec)), None)
        if alike is not None:
            new.remove(alike)
            found[name] = alike
    return found


def _frame(spec: TensorSpec) -> tuple[object, ...]:
    return (spec.dtype, *(dim if isinstance(dim, int) else None for dim in spec.dims))


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in spec.dims)}]"
