"""What a target says about itself: what it can run, how graphs are lowered for it, how packages are made.

Importing this module loads no runtime; methods that need one import it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.recipes import Recipe, Step

__all__ = ["Capabilities", "CompileReport", "Target", "Unsupported"]


@dataclass(frozen=True)
class Unsupported:
    """A node that a target has no kernel for, and why; `origin` is the edit that made it, if one did."""

    node: str
    operator: str
    reason: str
    origin: str | None = None

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.operator}): {self.reason}"


class Capabilities(ABC):
    """What a target's runtime has kernels for, asked of the runtime that is installed."""

    @abstractmethod
    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        """Whether there is a kernel for the operator at this version of its domain.

        `dtypes` maps the schema's type variables to ONNX type names ("tensor(float)"); others are free.
        """

    @abstractmethod
    def accepts(self, rule: str, *values: int) -> bool:
        """Whether the runtime takes these sizes, found by running the smallest graph that has them.

        The rules a target knows are its own. The cpu target's are ("head-size", size) and
        ("rotary-head-size", size) of GroupQueryAttention, ("qk-norm",) for norms inside it, and
        ("matmul-nbits", bits, block size), ("matmul-nbits-float-zeros", bits), ("matmul-nbits-g-idx", bits).
        `KeyError` for an unknown rule.
        """

    @abstractmethod
    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        """The nodes of `model` that could not run, subgraphs included."""

    def remarks(self, model: ir.Model) -> Sequence[str]:
        """What of `model` runs, but is many times slower than it could be, or is wrong; in words."""
        return ()


@dataclass(frozen=True)
class CompileReport:
    """What `Target.compile` wrote: nodes in the graph, bytes on disk, seconds to open a session on it."""

    nodes: int
    bytes: int
    load_seconds: float


class Target(ABC):
    """A place where packages run: an execution provider on a kind of machine."""

    name: ClassVar[str]

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the installed runtime can do."""

    @abstractmethod
    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        """The steps that stand where `recipe` says `@lower`."""

    @abstractmethod
    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        """Write `model` to `path` (and `path`.data) in the form this target loads, and open it once.

        Raises `BadInput` naming the node where the target cannot run the graph.
        """

    @abstractmethod
    def session_options(self, *, threads: int | None = None) -> Any:
        """Options for this machine, as it is now; `threads` None: as many as the process may use."""

    @abstractmethod
    def session(self, path: Path, *, threads: int | None = None) -> Any:
        """The `onnxruntime.InferenceSession` of the graph at `path`."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What measured decisions and speeds depend on: processor, instructions, cores, runtime."""
