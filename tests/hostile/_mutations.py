"""Models changed at random: their bytes, and the messages they are made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import Message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["ALWAYS", "Seeds", "changed_bytes", "changed_json", "changed_messages", "damage"]

ALWAYS = settings(
    derandomize="FUZZ" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""The same examples in every run, and others where $FUZZ is set."""

_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
_INTEGERS = (-(2**63), -(2**31), -1, 0, 1, 2, 7, 16, 2**31 - 1, 2**31, 2**62, 2**63 - 1)
_VALUES = (None, True, -1, 2**63, 1e308, float("nan"), "", "../../etc", "\x00", [], {}, [[]], {"x": None})
_OTHERS = st.sampled_from(
    (b"", b"[]", b"[" * 100_000, b"1" * 5000, b'{"a": %s}' % (b"1" * 5000), b"\xef\xbb\xbf{}")
)
_TEXTS = ("", "x", "y", "\x00", "../net.data", "é" * 300, "If", "Loop", "Constant", "com.microsoft")


class Seeds(list[bytes]):
    """Models to begin with; hypothesis need not print them."""

    def __repr__(self) -> str:
        return f"<{len(self)} models>"


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: Seeds) -> bytes:
    """A file with bytes overwritten, removed or repeated, or cut off, or spliced with another."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        length = draw(st.integers(1, 16))
        match draw(st.sampled_from(("set", "drop", "repeat", "cut", "splice"))):
            case "set" if data:
                data[at] = draw(st.sampled_from(_INTERESTING) | st.integers(0, 255))
            case "drop":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length] * draw(st.integers(1, 4))
            case "cut":
                del data[at:]
            case "splice":
                other = draw(st.sampled_from(seeds))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@st.composite
def changed_messages(draw: st.DrawFn, seeds: Seeds) -> bytes:
    """A model that is still one to protobuf, with some of its fields changed."""
    model = onnx.ModelProto.FromString(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        changes = list(_changes(model, model, draw))
        if changes:
            draw(st.sampled_from(changes))()
    return bytes(model.SerializeToString())


def _changes(model: Message, message: Message, draw: st.DrawFn) -> Iterator[Callable[[], object]]:
    """Every change of one field below `message`, as something to call."""
    for field in message.DESCRIPTOR.fields:
        value: Any = getattr(message, field.name)
        if field.is_repeated:
            if len(value):
                yield lambda value=value: value.pop(draw(st.integers(0, len(value) - 1)))
                yield lambda value=value: value.extend([value[draw(st.integers(0, len(value) - 1))]])
                if field.type == field.TYPE_MESSAGE:
                    yield lambda value=value: _swap(value, draw)
                    for item in value:
                        yield from _changes(model, item, draw)
                else:
                    yield lambda field=field, value=value: value.__setitem__(
                        draw(st.integers(0, len(value) - 1)), _other(field, draw)
                    )
        elif message.HasField(field.name):
            yield lambda name=field.name: message.ClearField(name)
            if field.type == field.TYPE_MESSAGE:
                yield from _changes(model, value, draw)
            else:
                yield lambda field=field: setattr(message, field.name, _other(field, draw))


def _swap(items: Any, draw: st.DrawFn) -> None:
    one, other = draw(st.integers(0, len(items) - 1)), draw(st.integers(0, len(items) - 1))
    kept = type(items[one])()
    kept.CopyFrom(items[one])
    items[one].CopyFrom(items[other])
    items[other].CopyFrom(kept)


def _other(field: Any, draw: st.DrawFn) -> object:
    match field.type:
        case field.TYPE_STRING:
            return draw(st.sampled_from(_TEXTS))
        case field.TYPE_BYTES:
            return draw(st.sampled_from((b"", b"\xff\xfe", bytes(16), bytes(17))))
        case field.TYPE_FLOAT | field.TYPE_DOUBLE:
            return draw(st.sampled_from((0.0, -1.0, float("inf"), float("nan"))))
        case field.TYPE_ENUM:
            return draw(st.sampled_from([value.number for value in field.enum_type.values]))
        case field.TYPE_INT32:
            return draw(st.sampled_from([i for i in _INTEGERS if -(2**31) <= i < 2**31]))
        case field.TYPE_UINT64:
            return draw(st.sampled_from([i for i in _INTEGERS if i >= 0]))
        case _:
            return draw(st.sampled_from(_INTEGERS))


@st.composite
def changed_json(draw: st.DrawFn, seeds: Seeds) -> bytes:
    """A file that is still JSON, with a few of its values removed, or of another kind."""
    whole = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(whole))
        if places:
            holder, key = draw(st.sampled_from(places))
            if draw(st.booleans()):
                holder[key] = draw(st.sampled_from(_VALUES))
            else:
                del holder[key]
    return json.dumps(whole).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each entry of each list and object inside `value`: what holds it, and where."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)


def damage(path: Path, data: st.DataObject) -> None:
    """Change the file at `path`: its bytes, all of it, or, where it is JSON, what it says."""
    changes: list[Callable[[Seeds], st.SearchStrategy[bytes]]] = [changed_bytes, lambda _: _OTHERS]
    if path.suffix in (".json", ".lock"):
        changes.append(changed_json)
    path.write_bytes(data.draw(data.draw(st.sampled_from(changes))(Seeds([path.read_bytes()]))))
