"""The interface every pass implements; its docstring is the contract."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import onnx_ir as ir
from pydantic import TypeAdapter, ValidationError

from graphopt.errors import BadInput
from graphopt.io import nearest
from graphopt.pipeline._context import Context
from graphopt.pipeline._contract import Contract, Level, OpsetRange
from graphopt.pipeline._edit import Edit, NearMiss, Outcome

__all__ = ["Edits", "Pass"]

Edits = Generator[Edit | NearMiss, Outcome | None, None]


class Pass(ABC):
    """One transformation of a graph, proposed edit by edit.

    A subclass sets `name`, `level`, `contract` and, where it cares, `opsets` (13 and up if it does not: what
    older operators mean, it may not know); its docstring tells what the graph looks like before and after and
    what it refuses. `edits` walks one graph (the engine calls it for the main graph and, unless
    `main_graph_only`, for every subgraph), yields an `Edit` for each match and goes on over the committed
    graph once it has the `Outcome`; it yields a `NearMiss` where a match failed on its last condition. It
    never changes the graph itself: new nodes are built off-graph. A pass that may
    find something in its own result says so with `idempotent = False`, and one that makes no edits, but
    decides for passes behind it, with `decides_only = True`; where `decides_for` names one of these, options
    of the same names that a run sets there hold here, too. One that keeps from runtimes what they get wrong
    says `shields = True`: as deployed, a source that rounds is what such passes make of it.
    """

    name: ClassVar[str]
    level: ClassVar[Level]
    contract: ClassVar[Contract]
    opsets: ClassVar[OpsetRange] = OpsetRange(13, None)
    main_graph_only: ClassVar[bool] = False
    idempotent: ClassVar[bool] = True
    decides_only: ClassVar[bool] = False
    decides_for: ClassVar[str] = ""
    shields: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """No options."""

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    def effective_contract(self) -> Contract:
        """The contract that holds with these options; `contract` unless a subclass knows better."""
        return self.contract

    def form(self, name: str, k: int, n: int, *, looked_up: bool = False, experts: int = 1) -> str | None:
        """How this pass stores the weight `name` [k, n] as its options say; None: as it was.

        "4/128" and "8/32z" are bits, block and zero points, "16" is half precision. Of a table that is only
        `looked_up` in, n rows of k are read. Of several `experts`, n is all that the matrices of one have of
        columns, side by side. It is asked before there is a graph, to tell what a package will take; what a
        pass finds out as it runs may still differ.
        """
        return None

    def unmeasured(self, k: int, n: int) -> Mapping[str, Any]:
        """Options by which this pass stores a weight [k, n] as `form` says, where it would measure first."""
        return {}

    @property
    def cache_bits(self) -> int | None:
        """The bits in which keys and values are cached after this pass; None: as before."""
        return None

    @abstractmethod
    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        """Propose edits to `graph`."""

    @classmethod
    def configure(cls, values: Mapping[str, Any]) -> Pass:
        """A pass with these options (TOML values or command-line text); `BadInput` on a bad one."""
        known = cls.Options.__dataclass_fields__
        for key in values:
            if key.replace("-", "_") not in known:
                near = nearest(key, known)
                raise BadInput(
                    f"pass {cls.name!r} has no option {key!r}",
                    hint=f"Did you mean {near!r}?" if near else f"Its options: {', '.join(known) or 'none'}.",
                )
        try:
            options = _reader(cls.Options).validate_python(
                {k.replace("-", "_"): _number(v) for k, v in values.items()}
            )
        except ValidationError as error:
            first = error.errors()[0]
            option = ".".join(str(part) for part in first["loc"])
            raise BadInput(
                f"pass {cls.name!r}, option {option!r}: {first['msg']} (got {first['input']!r})"
            ) from error
        return cls(options)

    def resolved(self) -> dict[str, Any]:
        """Every option with its value, as TOML-able data."""
        return asdict(self.options)


@functools.cache
def _reader(options: type) -> TypeAdapter[Any]:
    return TypeAdapter(options)


def _number(value: Any) -> Any:
    """Text that spells a number as that number: an option of a few allowed ones takes no text."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
