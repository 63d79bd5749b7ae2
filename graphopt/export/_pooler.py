"""Poolers that a checkpoint lacks: what the model gives for each position needs none."""

from __future__ import annotations

import inspect
from typing import Any

from graphopt.export._convert import placed
from graphopt.export._quantized import Checkpoint

__all__ = ["NO_POOLER", "lacks_pooler"]

NO_POOLER = {"add_pooling_layer": False}
"""What tells a model's class to leave its pooler out, and with it the output `pooler_output`."""


def lacks_pooler(network: Any, checkpoint: Checkpoint) -> bool:
    """Whether `network` has a pooler that it can do without, of which the checkpoint holds nothing."""
    wanted = {name for name in network.state_dict() if name.startswith("pooler.")}
    if not wanted or "add_pooling_layer" not in inspect.signature(type(network).__init__).parameters:
        return False
    return wanted.isdisjoint(name for name, _ in placed(network, checkpoint.keys()).values())
