"""When Python looks for garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

__all__ = ["keeping_what_is", "without_collection"]


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Inside, garbage is not looked for: imports and traces make millions of objects and little of it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def keeping_what_is() -> Iterator[None]:
    """Inside, garbage is looked for among what is made inside: what was there before is taken to stay."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
