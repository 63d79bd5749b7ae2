"""Plain values as JSON without loss: tuples, keys that are no strings, and numbers that are not finite."""

from __future__ import annotations

from typing import Any

__all__ = ["CannotStore", "decoded", "encoded"]

_MARK = "!"


class CannotStore(Exception):
    """Something that the cache has no form for."""


def encoded(value: Any) -> Any:
    """`value` in what JSON has. Raises `CannotStore` for what is not a plain value."""
    match value:
        case None | bool() | int() | float() | str() if type(value) in (type(None), bool, int, float, str):
            return value
        case list():
            return [encoded(item) for item in value]
        case tuple():
            return {_MARK: "tuple", "items": [encoded(item) for item in value]}
        case dict() if _MARK not in value and all(type(key) is str for key in value):
            return {key: encoded(item) for key, item in value.items()}
        case dict():
            return {_MARK: "dict", "items": [[encoded(k), encoded(v)] for k, v in value.items()]}
    raise CannotStore(f"a {type(value).__name__}")


def decoded(value: Any) -> Any:
    """What `encoded` was given."""
    match value:
        case list():
            return [decoded(item) for item in value]
        case {"!": "tuple", "items": items}:
            return tuple(decoded(item) for item in items)
        case {"!": "dict", "items": items}:
            return {decoded(k): decoded(v) for k, v in items}
        case dict():
            return {key: decoded(item) for key, item in value.items()}
    return value
