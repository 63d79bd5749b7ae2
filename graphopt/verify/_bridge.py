"""An edit that changes what the model's inputs and outputs hold, in the form in which it can be compared."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from graphopt.pipeline import Edit

__all__ = ["bridged"]


@contextlib.contextmanager
def bridged(edit: Edit) -> Iterator[tuple[Edit, Mapping[ir.Value, np.ndarray]]]:
    """`edit` between old values on both sides, and the magnitudes that its claim is limited to.

    Without a bridge it is the edit itself. With one, its own nodes take what the bridge makes for as long as
    the context lasts.
    """
    if edit.bridge is None:
        yield edit, {}
        return
    bridge = edit.bridge()
    rewired = [
        (node, index, value)
        for node in edit.insert
        for index, value in enumerate(node.inputs)
        if value is not None and value in bridge.feeds
    ]
    for node, index, value in rewired:
        node.replace_input_with(index, bridge.feeds[value])
    try:
        yield (
            dataclasses.replace(
                edit,
                insert=[*edit.insert, *bridge.nodes],
                replace={old: bridge.results.get(old, new) for old, new in edit.replace.items()},
                add_inputs=[value for value in edit.add_inputs if value not in bridge.feeds],
                adapter=None,
                bridge=None,
            ),
            bridge.within,
        )
    finally:
        for node, index, value in rewired:
            node.replace_input_with(index, value)
        for node in bridge.nodes:  # or they would stay users of what the edit drops
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)
