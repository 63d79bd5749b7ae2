"""What a target is: a place where packages run."""

from __future__ import annotations

import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from graphopt.errors import BadInput
from graphopt.targets._capabilities import Capabilities, Unsupported
from graphopt.targets._diagnosis import Diagnosis

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from graphopt.families import PackageContext
    from graphopt.recipes import Recipe, Step
    from graphopt.runtime import Decoder

__all__ = ["BlockProduct", "CompileReport", "LoadedKind", "LoadedNode", "Target", "refusal"]


@dataclass(frozen=True)
class CompileReport:
    """What `Target.compile` wrote: nodes in the graph, bytes on disk, seconds to open a session on it."""

    nodes: int
    bytes: int
    load_seconds: float


LoadedKind = Literal["integers", "floats", "rounds", "widens", "other"]
"""What a node computes in: integers of 8 bits, which it may also just move, or floats; between the two are
those that round and those that widen. Sizes, indices, conditions and what is constant are something else."""


@dataclass(frozen=True)
class LoadedNode:
    """A node that a runtime made of a graph: values that it reads and makes are no constants."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kind: LoadedKind


@dataclass(frozen=True)
class BlockProduct:
    """Rows float32[.., k] times a weight [k, n] of so many `bits`, quantized in blocks along k: MatMulNBits.

    `level` is its accuracy_level: at 4 the kernel rounds the rows to int8, or to more.
    """

    bits: int
    k: int
    n: int
    level: int


class Target(ABC):
    """A place where packages run: an execution provider on a kind of machine.

    What only a target can know is abstract. The rest has defaults that suit an execution provider of
    onnxruntime that loads .onnx files: name it as `provider`. Sessions and decoders of a package come from
    here alone, whoever runs it.
    """

    name: ClassVar[str]
    provider: str = "CPUExecutionProvider"
    """The execution provider that `session` opens graphs on."""
    libraries: frozenset[str] = frozenset({"onnxruntime"})
    """Distributions whose code shapes results here; a package's lock has their versions."""

    fixed_sizes: bool = False
    """Whether graphs are compiled for one size of each dimension, `sizes`."""
    sizes: Mapping[str, int] = MappingProxyType({})
    """Those that `compile` is to fix, by dimension of the inputs; who makes a package sets them before."""

    recipe: str | None = None
    """The recipe for a source where none is asked for; None: what its family says."""

    @classmethod
    def title(cls) -> str:
        """What it is, in a line."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

    def facts(self) -> dict[str, str]:
        """What `graphopt targets show` tells beside the fingerprint; by default nothing."""
        return {}

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the installed runtime can do."""

    @abstractmethod
    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        """The steps that stand where `recipe` says `@lower`."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What measured decisions and speeds depend on: processor, instructions, cores, runtime."""

    def diagnose(self) -> Diagnosis:
        """Whether packages can run here, and what would mend it where they cannot. It loads no graph."""
        from graphopt.targets._diagnosis import of_provider

        return of_provider(self.provider)

    def place(self, role: str, model: ir.Model) -> str:
        """Where in a package the graph `model` lies that plays `role` ("model"), as `compile` is told."""
        return f"{role}.onnx"

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        """Write `model` to `path` (and `path`.data) in the form this target loads, and open it once.

        Raises `BadInput` naming the node where the target cannot run the graph; nothing is written then.
        """
        from graphopt.ir import save_model

        self.require_kernels(model)
        save_model(model, path)
        started = time.perf_counter()
        self.session(path)
        load_seconds = time.perf_counter() - started
        data = path.with_name(path.name + ".data")
        size = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
        return CompileReport(sum(1 for _ in model.graph.all_nodes()), size, load_seconds)

    def require_kernels(self, model: ir.Model) -> None:
        """Raise `BadInput` naming the first node of `model` that the target cannot run, if there is one.

        Types that nobody wrote down are inferred before.
        """
        from graphopt.ir import infer_types

        infer_types(model)
        refused = self.capabilities().unsupported(model)
        if refused:
            raise refusal(self.name, refused)

    def package_files(
        self, source: Path | None, staging: Path, parts: Mapping[str, PackageContext]
    ) -> list[str]:
        """Write into `staging` what this target wants beside graphs and what the family has written there.

        `source` is the folder of the source, if it is one; `parts` are the graphs by role. Returns what the
        user should know about it, if anything.
        """
        return []

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        """An `onnxruntime.InferenceSession` of the graph at `path`: one `compile` wrote, or any .onnx file.

        It is set up for this machine as it is now; `threads` None: as many as the process may use. `BadInput`
        where the graph cannot be loaded, `EnvironmentProblem` where the provider is not installed.
        """
        from graphopt.runtime import open_session

        return open_session(path, threads=threads, providers=(self.provider,))

    def session_choices(self) -> Mapping[str, Sequence[Any]]:
        """What `graphopt tune` tries, values by field of `graphopt.runtime.SessionSettings`; a value of
        `options` is a tuple of one pair, an option of the execution provider and what it may be."""
        from graphopt.runtime import session_choices

        return session_choices()

    def loaded_nodes(self, path: Path) -> Sequence[LoadedNode]:
        """The nodes that the runtime makes of the graph at `path`, in order; none if that is unknown."""
        return ()

    def call_seconds(self, model: ir.Model, feeds: Mapping[str, np.ndarray]) -> float | None:
        """Seconds that a call of `model`, which is small, takes on one thread, the least of some.

        They are comparable with each other alone. None where this target cannot measure, as by default.
        """
        return None

    def decoder(
        self,
        folder: Path,
        session: Any,
        *,
        length: int,
        batch: int = 1,
        states: Mapping[str, str] | None = None,
    ) -> Decoder:
        """What decodes `batch` texts of at most `length` tokens with a `session` of this target's.

        `folder` is the package, whose files say how its cache is kept; `states` are as `Decoder` takes them.
        """
        from graphopt.runtime import Decoder

        return Decoder.of(folder, session, length=length, batch=batch, states=states)

    def shares_cache(self, model: ir.Model, states: Container[str]) -> bool:
        """Whether past and present of the `states` of `model`, names of inputs, may be one buffer each.

        Such a buffer has a fixed size, and is the past and the present of every call at once.
        """
        return False

    def product_seconds(self, product: BlockProduct, blocks: Sequence[int]) -> Mapping[int, float] | None:
        """Seconds of `product` by block size: one token written and one of a prompt read, both together.

        They are comparable with each other alone. None where this target has not measured and cannot.
        """
        return None

    def token_seconds(self, product: BlockProduct, blocks: Sequence[int]) -> Mapping[int, float] | None:
        """Seconds of `product` for one token that is written, by block size, its weight read from memory.

        None where this target has not measured and cannot.
        """
        return None


def refusal(target: str, found: Sequence[Unsupported]) -> BadInput:
    """That `target` cannot run what was `found`, with what to do."""
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first.origin is None:
        hint = "Export the model with another operator or type there, or at another opset."
    else:
        hint = f"Edit {first.origin} made it: leave that pass out of the recipe, or set its options."
    return BadInput(f"target {target!r} cannot run {first}{more}", hint=hint)
