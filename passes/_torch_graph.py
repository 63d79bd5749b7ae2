"""A graph in PyTorch, from values that are given to its outputs, with weights that may change."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from graphopt.ir import ConstantMatrix, constant_matrix, constant_table, subgraphs_of

from ._torch_operators import OPERATORS

__all__ = ["TorchGraph", "Unsupported", "rounded_to_8_bits"]


class Unsupported(ValueError):
    """Why a graph has no counterpart in PyTorch."""


@dataclass(frozen=True)
class _Product:
    """x times the changing weight `key`, x rounded to 8 bits in blocks of `block`."""

    key: Hashable
    x: ir.Value
    bias: ir.Value | None
    block: int | None


class TorchGraph:
    """What of `graph` leads from the weights named by `blocks` to `outputs`.

    `blocks` has the weights that change, by the identity of their rows (`Expr.identity`): in blocks of how
    many entries their products round x, as MatMulNBits does at accuracy level 4, None where they do not.
    Gathers look rows up in those of them that are in `tables`. `given` are the values that the rest of the
    graph computes and these nodes read. Raises `Unsupported`.
    """

    def __init__(
        self,
        graph: ir.Graph,
        outputs: Sequence[ir.Value],
        blocks: Mapping[Hashable, int | None],
        tables: Collection[Hashable],
    ) -> None:
        self.outputs = list(outputs)
        self.given: list[ir.Value] = []
        self._steps: list[tuple[ir.Node, _Product | Hashable | None]] = []
        self._constants: dict[ir.Value, Tensor] = {}
        made: set[ir.Value] = set()
        for node in graph:
            changed = _product(node, blocks) or _gathered(node, tables)
            if changed is None and made.isdisjoint(node.inputs):
                continue
            self._steps.append((node, changed))
            made.update(node.outputs)
        self._drop_unused()
        found = {changed.key if isinstance(changed, _Product) else changed for _, changed in self._steps}
        if not found.issuperset(blocks):
            raise Unsupported(
                "a weight takes no part in the outputs, or in products of another type than float32"
            )
        for node, changed in self._steps:
            self._prepare(node, changed, made)

    def _drop_unused(self) -> None:
        wanted = set(self.outputs)
        kept = []
        for node, changed in reversed(self._steps):
            if not wanted.isdisjoint(node.outputs):
                wanted.update(v for v in node.inputs if v is not None)
                kept.append((node, changed))
        self._steps = kept[::-1]

    def _prepare(self, node: ir.Node, changed: object, made: Collection[ir.Value]) -> None:
        """Checks that `node` can be run, and finds where what it reads comes from."""
        if changed is None and (node.domain or node.op_type not in OPERATORS or any(subgraphs_of(node))):
            raise Unsupported(f"{node.name or node.op_type}: no {node.op_type} in PyTorch here")
        for value in _read(node, changed):
            if value in made or value in self._constants or value in self.given:
                continue
            if value.is_initializer() and value.const_value is not None:
                self._constants[value] = torch.from_numpy(value.const_value.numpy().copy())
            else:
                self.given.append(value)

    def __call__(
        self, weights: Mapping[Hashable, Tensor], given: Sequence[Tensor], *, rounding: bool = True
    ) -> list[Tensor]:
        """The outputs, by weights [N, K] and what `given` are; without `rounding`, x stays as it is.

        By a weight in bfloat16, x is multiplied in bfloat16; sums are in float32.
        """
        values = self._constants | dict(zip(self.given, given, strict=True))
        read: dict[
            tuple[ir.Value, int | None, torch.dtype], Tensor
        ] = {}  # several weights multiply one value
        for node, changed in self._steps:
            if isinstance(changed, _Product):
                weight, block = weights[changed.key], changed.block if rounding else None
                way = changed.x, block, weight.dtype
                if way not in read:
                    x = values[changed.x]
                    read[way] = (x if block is None else rounded_to_8_bits(x, block)).to(weight.dtype)
                bias = None if changed.bias is None else values[changed.bias]
                results = [_product_of(read[way], weight, bias)]
            elif changed is not None:
                assert node.inputs[1] is not None
                results = [functional.embedding(values[node.inputs[1]], weights[changed]).float()]
            else:
                made = OPERATORS[node.op_type](node, *(None if v is None else values[v] for v in node.inputs))
                results = list(made) if isinstance(made, list) else [made]
            values.update(zip(node.outputs, results, strict=False))
        return [values[value] for value in self.outputs]


def _product(node: ir.Node, blocks: Mapping[Hashable, int | None]) -> _Product | None:
    found = constant_matrix(node)
    if not isinstance(found, ConstantMatrix) or found.rows.identity not in blocks:
        return None
    key = found.rows.identity
    return _Product(key, found.x, found.bias, blocks[key])


def _gathered(node: ir.Node, tables: Collection[Hashable]) -> Hashable | None:
    found = constant_table(node)
    return found[1].identity if found is not None and found[1].identity in tables else None


def _read(node: ir.Node, changed: object) -> list[ir.Value]:
    if isinstance(changed, _Product):
        return [changed.x] if changed.bias is None else [changed.x, changed.bias]
    inputs = node.inputs if changed is None else node.inputs[1:]
    return [value for value in inputs if value is not None]


def _product_of(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = functional.linear(x, weight).float()
    return y if bias is None else y + bias


def rounded_to_8_bits(x: Tensor, block: int) -> Tensor:
    """`x` as MatMulNBits at accuracy level 4 reads it: 255 levels for each block of its last axis.

    Beside weights of 8 bits onnxruntime's kernel alone does so: ours gives x 16 bits, which is next to exact.

    Gradients pass as if nothing were rounded (the straight-through estimator, Bengio et al. 2013,
    arXiv 1308.3432).
    """
    width = x.shape[-1]
    with torch.no_grad():
        blocks = functional.pad(x, (0, -width % block)).reshape(*x.shape[:-1], -1, block)
        step = blocks.abs().amax(-1, keepdim=True) / 127
        step = torch.where(step == 0, torch.ones_like(step), step)
        off = (torch.round(blocks / step) * step).flatten(-2)[..., :width] - x
    return x + off
