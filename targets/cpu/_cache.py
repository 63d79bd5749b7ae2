"""Which graphs write new keys and values where the past ones lie."""

from __future__ import annotations

from collections.abc import Container

import onnx_ir as ir

__all__ = ["shares_cache"]

_IN_PLACE = {("com.microsoft", "GroupQueryAttention"): (3, 4)}
"""Inputs that may be the same memory as an output: past_key and past_value, by the operator's spec."""


def shares_cache(model: ir.Model, states: Container[str]) -> bool:
    """Whether a cache of fixed size can stand for past and present: nothing but attention kernels that take
    one looks at a past that grows. A state that does not grow is no cache."""
    past = [
        value
        for value in model.graph.inputs
        if value.name in states
        if not all(isinstance(dim, int) for dim in (value.shape or (None, None))[1:])
    ]
    return bool(past) and all(
        index in _IN_PLACE.get((user.domain, user.op_type), ())
        for value in past
        for user, index in value.uses()
    )
