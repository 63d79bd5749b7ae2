"""What a target's runtime has kernels for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Capabilities", "Remark", "Unsupported"]


@dataclass(frozen=True)
class Unsupported:
    """A node that a target has no kernel for, and why; `origin` is the edit that made it, if one did."""

    node: str
    operator: str
    reason: str
    origin: str | None = None

    @classmethod
    def of(cls, node: ir.Node, reason: str) -> Unsupported:
        """That `node` has no kernel, because of `reason`."""
        return cls(
            node.name or node.outputs[0].name or "?",
            f"{node.domain or 'ai.onnx'}::{node.op_type}",
            reason,
            node.metadata_props.get("graphopt.provenance", "").partition(" <- ")[0] or None,
        )

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.operator}): {self.reason}"


@dataclass(frozen=True)
class Remark:
    """A node that runs, and is many times slower than it could be, or gives wrong numbers: `text` says how.

    `kind` is what rules of `graphopt lint` know it by: "accuracy-level", "float-zeros", "ordered",
    "ignored-zeros" and "block" are those of the built-in targets.
    """

    kind: str
    node: str
    text: str


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

    def left_to_others(self, model: ir.Model) -> Sequence[Unsupported]:
        """The nodes of `model` that run, but on another execution provider than the target's, and why.

        By default none: what the target has no kernel for could not run.
        """
        return ()

    def accepts(self, rule: str, *values: int) -> bool:
        """Whether the runtime takes these sizes, which no list of kernels tells. By default it knows no rule.

        Built-in passes ask of `GroupQueryAttention` ("head-size", size), and ("rotary-head-size", size,
        rotated) where the first `rotated` elements of a head are to be rotated inside it, and
        ("attention-bias",) where something is added to scores (a target that does not know that rule is taken
        to). The cpu target also knows ("qk-norm",) for
        norms inside it, and ("matmul-nbits", bits, block size), ("matmul-nbits-float-zeros", bits),
        ("matmul-nbits-g-idx", bits). `KeyError` for an unknown rule.
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

    def packed_projections(self) -> bool:
        """Whether one product that makes queries, keys and values of many rows is faster than three. By
        default it is.
        """
        return True

    def static_scales(self) -> bool:
        """Whether products in integers want scales that are known before a run: where one comes with its
        activation (MatMulInteger) they are computed in floats. By default not.
        """
        return False

    def remarks(self, model: ir.Model) -> Sequence[Remark]:
        """What of `model` runs, but is many times slower than it could be, or is wrong."""
        return ()
