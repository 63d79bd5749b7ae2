"""What OpenVINO made of a graph, as its runtime model tells, in graphopt's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.targets import LoadedKind, LoadedNode

__all__ = ["loaded_nodes"]

_INTEGERS = {"i8", "u8"}
_FLOATS = {"f32", "bf16", "f16"}
_NONE = {"Input", "Output", "Const", "Reorder"}
"""Of OpenVINO's layers, those that compute nothing: a Reorder lays numbers out anew."""


def loaded_nodes(told: Sequence[Mapping[str, Any]]) -> list[LoadedNode]:
    """`told` are the nodes of a session of the openvino target."""
    return [
        LoadedNode(one["name"], one["type"], tuple(one["inputs"]), (one["name"],), _kind(one))
        for one in told
        if one["type"] not in _NONE
    ]


def _kind(one: Mapping[str, Any]) -> LoadedKind:
    if one["type"] == "FakeQuantize":
        return "rounds"
    if one["precision"] in _INTEGERS:
        return "integers"
    return "floats" if one["precision"] in _FLOATS else "other"
