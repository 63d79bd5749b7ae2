"""What attributes of standard operators are where a node does not have them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx

__all__ = ["default_attributes"]


@functools.cache
def default_attributes(domain: str, op_type: str, version: int) -> Mapping[str, bytes]:
    """By name what the schema in force at `version` of the domain gives, as serialized attributes.

    Empty for an operator that onnx does not know.
    """
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: declared.default_value.SerializeToString(deterministic=True)
        for name, declared in schema.attributes.items()
        if declared.default_value.type != onnx.AttributeProto.UNDEFINED
    }
