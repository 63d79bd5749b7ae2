"""The unit of change: one edit, what it claims about itself, and what became of it."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from numpy.typing import NDArray

if TYPE_CHECKING:
    from graphopt.families import Assumption
    from graphopt.interface import Adapter
    from graphopt.pipeline._contract import Contract

__all__ = ["Bridge", "Edit", "NearMiss", "Outcome", "Proof", "place_of"]


class Outcome(enum.Enum):
    """What the engine did with an edit. `REFUSED` and `ROLLED_BACK` leave the model as it was."""

    APPLIED = "applied"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"


class Proof(enum.Enum):
    """A structural claim that the engine checks instead of running anything."""

    UNUSED = "unused"
    DUPLICATE = "duplicate"
    SAME_WEIGHT = "same weight"
    PASS_THROUGH = "pass-through"


@dataclass(frozen=True, eq=False)
class Bridge:
    """Makes an edit comparable that changes what inputs and outputs of the model hold.

    `nodes`, off-graph and never applied, do what the edit's adapter does: `feeds` maps inputs that the edit
    adds to values made of old ones, and `results` old values to what the edit's own are turned into.
    `within` limits the claim: largest magnitudes of old values, as arrays that broadcast to them, infinite
    where any number will do.
    """

    nodes: Sequence[ir.Node]
    feeds: Mapping[ir.Value, ir.Value]
    results: Mapping[ir.Value, ir.Value]
    within: Mapping[ir.Value, NDArray[Any]] = field(default_factory=dict)


@dataclass(eq=False)
class Edit:
    """Replace the nodes `remove` by the off-graph nodes `insert`.

    `replace` maps each old value that is still used elsewhere to the value that takes over its uses and,
    where the new value is freshly made, its name. New nodes go where `before` stands (default: the last
    removed node); the engine restores topological order at the end of the pass. Initializers that only
    removed nodes used go with them. An edit that changes the model's interface names the inputs it adds or
    drops and brings the `adapter` that maps old feeds to new ones. `opset` is the version of the default
    operator set the model is at once the edit is in force, where it changes that. `bridge` makes what it
    takes to compare an edit with what it replaces where inputs and outputs hold other types then. `unproven`
    says why running it beside what it replaces decides nothing: the closing check then has to. `assumes` are
    conditions under which alone the edit is right: it is checked on calls that meet them, as everything that
    comes after it is, and the package records them. `tentative`: the pass does not answer for it, so where
    the check fails it is rolled back and the run goes on. `contract` is held instead of the pass's, where
    edits of one pass promise different things. `samples` gives arrays for values of the graph as it is before
    the edit, where a promise is one for what a model is calibrated on: it is checked on these alone.
    """

    summary: str
    remove: Sequence[ir.Node] = ()
    insert: Sequence[ir.Node] = ()
    replace: Mapping[ir.Value, ir.Value] = field(default_factory=dict)
    initializers: Sequence[ir.Value] = ()
    before: ir.Node | None = None
    drop_initializers: Sequence[ir.Value] = ()
    add_inputs: Sequence[ir.Value] = ()
    drop_inputs: Sequence[ir.Value] = ()
    adapter: Adapter | None = None
    opset: int | None = None
    proof: Proof | None = None
    bridge: Callable[[], Bridge] | None = None
    unproven: str = ""
    assumes: Sequence[Assumption] = ()
    tentative: bool = False
    contract: Contract | None = None
    samples: Callable[[Sequence[ir.Value]], Sequence[Any]] | None = None

    def touches(self) -> tuple[str, ...]:
        """Names of the nodes (or, for edits of weights alone, the initializers) it takes away."""
        names = [node.name or node.op_type for node in self.remove]
        return tuple(names or [value.name or "?" for value in (*self.drop_initializers, *self.replace)])

    def identity(self, step: str) -> str:
        """A name that stays the same from run to run: the step (`pass#2`) and a digest of what it touches."""
        return f"{step}:{hashlib.sha256('|'.join(self.touches()).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class NearMiss:
    """A place where a pass almost matched, and the condition that failed: material for `--explain`."""

    where: str
    reason: str


def place_of(identity: str) -> str:
    """The name of the folder for the edit of this `identity`."""
    return identity.replace(":", "-")
