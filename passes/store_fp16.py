"""store-fp16: weights are stored in half precision and computed with in single."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from graphopt.ir import Cast, LazyTensor, has_data, lazy, tiles
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Pass

_LARGEST = 65504.0


class StoreFp16(Pass):
    """A large float32 weight becomes a float16 one and a Cast, which the runtime does once, at load.

    Before: MatMul(x, W) with W float32
    After:  MatMul(x, Cast(W16 to float32))
    Halves the file. On CPU the sums stay in float32: only the weights are rounded (11 bits of mantissa).
    Refuses: weights below `smallest` bytes, without data, or with entries beyond float16's range.
    """

    name: ClassVar[str] = "store-fp16"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.lossy("kl", 1e-3)

    @dataclass(frozen=True)
    class Options:
        """smallest: bytes below which a weight stays as it is."""

        smallest: int = 4096

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        for value in tuple(graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < self.options.smallest:
                continue
            if value.is_graph_input() or value.is_graph_output() or not value.uses() or not has_data(tensor):
                continue
            if any(abs(block).max(initial=0.0) > _LARGEST for _, block in tiles(lazy(tensor))):
                yield NearMiss(value.name or "weight", "it has entries beyond float16's range")
                continue
            half = ir.Value(
                name=f"{value.name}/fp16",
                shape=value.shape,
                type=ir.TensorType(ir.DataType.FLOAT16),
                const_value=LazyTensor(Cast(lazy(tensor), ir.DataType.FLOAT16)),
            )
            tape = ir.tape.Tape()
            wide = tape.op("Cast", [half], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}/fp32")
            wide.name = f"{value.name}/wide"
            yield Edit(
                f"{value.name} in half precision",
                insert=tape.nodes,
                initializers=[half],
                drop_initializers=[value],
                replace={value: wide},
                before=next(iter(graph), None),
            )
