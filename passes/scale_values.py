"""scale-values: each channel of the values that an attention adds up by a factor: rounding loses less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.calibrate import Stream
from graphopt.ir import InMemory, Scaled
from graphopt.pipeline import Context, Contract, Edit, Edits, Level, NearMiss, Nodes, OpsetRange, Pass

from ._adapters import ScaledValues
from ._channel_factors import steps_for
from ._scale_search import factors_of
from ._values import Coordinates, ValuePath, in_other_coordinates, value_path


class ScaleValues(Pass):
    """The values of an attention are divided by a factor for each channel, what reads them is multiplied.

    Before: y = MatMul(heads of Attention(q, k, V = heads of MatMul(x, W) + b), O)
    After:  the same with W / s, b / s and diag(s) O: attention only adds values up
    As scale-channels does between a norm and products (AWQ, Lin et al. 2023, arXiv 2306.00978): weights of
    channels that are large on real text lose less. Heads of queries that share values share s, which is
    searched for as there, by the error of O's products, and a decision, replayed from a lock. The cache holds
    v / s: an adapter says so.
    Refuses: values that no product makes, or that are for others, too; heads whose size is unknown; weights
    that are used elsewhere; a cache of values that is no input and output of the graph; factors that do not
    lower the error on other rows by a hundredth; without real inputs, unless `by` is "weights".
    """

    name: ClassVar[str] = "scale-values"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.reassociates()
    opsets: ClassVar[OpsetRange] = OpsetRange(23, None)
    main_graph_only: ClassVar[bool] = True
    idempotent: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Options:
        """bits and block_size: the form that weights are rounded to on trial, where plan-bits has decided
        nothing for one; by: real activations, or the weights alone, which takes no data and gains less.
        """

        bits: Literal[2, 4, 8] = 4
        block_size: Literal[16, 32, 64, 128, 256] = 128
        by: Literal["activations", "weights"] = "activations"

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        # All are searched for first: an edit changes inputs, and the stream feeds those that there were.
        stream: Stream | str | None = None
        chosen: dict[ir.Node, list[int]] = {}
        for node in graph:
            if node.domain != "" or node.op_type != "Attention":
                continue
            where, found = node.name or node.op_type, value_path(node)
            if isinstance(found, str):
                yield NearMiss(where, found)
                continue
            key = f"{self.name}: {', '.join(p.matrix.name for p in found.readers)}"
            if key not in context.decisions and self.options.by == "activations":
                stream = stream or context.stream()
                if isinstance(stream, str):
                    yield NearMiss(where, stream)
                    continue
            x, groups = found.behind[-1].outputs[0], _groups(found)
            form = (self.options.bits, self.options.block_size)
            steps = context.decide(key, partial(steps_for, found.readers, x, form, stream, context, groups))
            if steps is None:
                yield NearMiss(where, "no factors lower the error of the products behind it")
            else:
                chosen[node] = steps
        for node, steps in chosen.items():
            found = value_path(node)
            yield (
                NearMiss(node.name or node.op_type, found)
                if isinstance(found, str)
                else _scaled(found, steps)
            )


def _groups(found: ValuePath) -> list[int]:
    """The channel of the values that each channel of the result is of."""
    width, held = found.readers[0].rows.shape[1], found.columns.stop - found.columns.start
    channels = np.arange(held).reshape(-1, found.size)
    return [int(channel) for channel in np.repeat(channels, width // held, axis=0).ravel()]


def _scaled(found: ValuePath, steps: list[int]) -> Edit:
    groups = np.asarray(_groups(found))
    first = np.unique(groups, return_index=True)[1]
    of_values = [steps[place] for place in first]
    s, behind = factors_of(of_values), factors_of(steps)
    inverse: NDArray[np.float32] = np.float32(1) / s
    heads = len(s) // found.size

    def times(factors: NDArray[np.float32], label: str, make: Nodes, value: ir.Value) -> ir.Value:
        held = make.constant(factors.reshape(heads, 1, found.size), np.float32, f"{label}-factors")
        return make.op("Mul", [value, held], label, like=found.past)

    adapter = None
    if found.past is not None and found.present is not None:
        adapter = ScaledValues(found.past.name or "", found.present.name or "", heads, tuple(of_values))
    coordinates = Coordinates(
        "scaled",
        values=lambda rows: Scaled(rows, InMemory(inverse), 0),
        readers=lambda rows: Scaled(rows, InMemory(behind), 1),
        there=lambda make, past: times(inverse, "fed", make, past),
        back=lambda make, cache, label: times(s, label, make, cache),
        adapter=adapter,
    )
    return in_other_coordinates(
        found, coordinates, f"values of {len(s)} channels scaled, by {s.min():.2g} to {s.max():.2g}"
    )
