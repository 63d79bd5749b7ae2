"""What depends on one byte alone, as a table of what onnxruntime makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

    from ._known import Known

__all__ = ["Chain", "tables"]

_ALL = "every uint8"


@dataclass(frozen=True)
class Chain:
    """Nodes that make `result` of the bytes of `start`, number by number."""

    start: str
    nodes: list[onnx.NodeProto]
    result: str


def tables(chains: Sequence[Chain], known: Known) -> dict[str, Any]:
    """What each chain makes of 0 to 255, by the name of its result, as onnxruntime computes it."""
    import numpy as np
    from onnx import TensorProto, helper

    from graphopt.runtime import session_of

    if not chains:
        return {}
    nodes = []
    for chain in chains:
        for node in chain.nodes:
            one = type(node).FromString(node.SerializeToString())
            one.input[:] = [_ALL if name == chain.start else name for name in one.input]
            nodes.append(one)
    results = [chain.result for chain in chains]
    constants = {name for node in nodes for name in node.input if name in known.constants}
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info(_ALL, TensorProto.UINT8, [256])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [256]) for name in results],
        [known.constants[name] for name in sorted(constants)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = session_of(model.SerializeToString())
    every = np.arange(256, dtype=np.uint8)
    return dict(zip(results, session.run(results, {_ALL: every}), strict=True))
