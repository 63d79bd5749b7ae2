"""What a target says about itself: what it can run, how graphs are lowered for it, and how it runs them.

Importing this module loads no runtime; methods that need one import it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from graphopt.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir

    from graphopt.recipes import Recipe, Step
    from graphopt.runtime import Decoder

__all__ = [
    "BlockProduct",
    "Capabilities",
    "CompileReport",
    "LoadedKind",
    "LoadedNode",
    "Target",
    "Unsupported",
]


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
    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        """The nodes of `model` that could not run, subgraphs included."""

    def accepts(self, rule: str, *values: int) -> bool:
        """Whether the runtime takes these sizes, which no list of kernels tells. By default it knows no rule.

        Built-in passes ask of `GroupQueryAttention` ("head-size", size), and ("rotary-head-size", size,
        rotated) where the first `rotated` elements of a head are to be rotated inside it. The cpu target also
        knows ("qk-norm",) for norms inside it, and ("matmul-nbits", bits, block size),
        ("matmul-nbits-float-zeros", bits), ("matmul-nbits-g-idx", bits). `KeyError` for an unknown rule.
        """
        raise KeyError(rule)

    def computes_in_integers(self, op_type: str) -> bool:
        """Whether the runtime computes ONNX's operator in integers of 8 bits, or moves these, where it stands
        between DequantizeLinear and QuantizeLinear. By default none: the target has no int8.
        """
        return False

    def fast_until(self, op_type: str) -> int | None:
        """The last opset whose form of ONNX's operator the runtime has its fast kernel for; None: any."""
        return None

    def signed_activations(self) -> bool:
        """Whether integer kernels want activations signed around zero, as GPUs and NPUs do, and not unsigned
        around any zero point. By default not.
        """
        return False

    def remarks(self, model: ir.Model) -> Sequence[str]:
        """What of `model` runs, but is many times slower than it could be, or is wrong; in words."""
        return ()


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
    provider: ClassVar[str] = "CPUExecutionProvider"
    """The execution provider that `session` opens graphs on."""
    libraries: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    """Distributions whose code shapes results here; a package's lock has their versions."""

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What the installed runtime can do."""

    @abstractmethod
    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        """The steps that stand where `recipe` says `@lower`."""

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What measured decisions and speeds depend on: processor, instructions, cores, runtime."""

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        """Write `model` to `path` (and `path`.data) in the form this target loads, and open it once.

        Raises `BadInput` naming the node where the target cannot run the graph; nothing is written then.
        """
        from graphopt.ir import infer_types, save_model

        infer_types(model)
        refused = self.capabilities().unsupported(model)
        if refused:
            raise _refusal(self.name, refused)
        save_model(model, path)
        started = time.perf_counter()
        self.session(path)
        load_seconds = time.perf_counter() - started
        data = path.with_name(path.name + ".data")
        size = path.stat().st_size + (data.stat().st_size if data.exists() else 0)
        return CompileReport(sum(1 for _ in model.graph.all_nodes()), size, load_seconds)

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        """An `onnxruntime.InferenceSession` of the graph at `path`: one `compile` wrote, or any .onnx file.

        It is set up for this machine as it is now; `threads` None: as many as the process may use. `BadInput`
        where the graph cannot be loaded, `EnvironmentProblem` where the provider is not installed.
        """
        from graphopt.runtime import open_session

        return open_session(path, threads=threads, providers=(self.provider,))

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


def _refusal(target: str, found: Sequence[Unsupported]) -> BadInput:
    first = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if first.origin is None:
        hint = "Export the model with another operator or type there, or at another opset."
    else:
        hint = f"Edit {first.origin} made it: leave that pass out of the recipe, or set its options."
    return BadInput(f"target {target!r} cannot run {first}{more}", hint=hint)
