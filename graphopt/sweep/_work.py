"""What a node does: one call, with the threads it may use, in the company that it bears."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import socket
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.errors import GraphoptError
from graphopt.io import code_digest, module_code
from graphopt.plugins import Allowed, registry
from graphopt.sweep._room import machine_to_itself, machine_with_others

__all__ = ["BUG", "PASSED_ON", "own_code", "work"]

BUG = 5
"""The exit code of what no error class stands for."""
PASSED_ON = ("GRAPHOPT_CACHE", "GRAPHOPT_CACHE_SIZE", "GRAPHOPT_TELEMETRY", "HF_HUB_OFFLINE", "HF_HOME")
"""Variables of the caller's that a call sees; others are the node's."""
_THREADS = ("GRAPHOPT_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def own_code() -> str:
    """The digest of graphopt's code here, and of that of all packs in use."""
    for find in (registry.passes, registry.targets, registry.families):
        find()
    packs = sorted((one.group, str(one), module_code(one.module) or "") for one in registry.origins())
    own = code_digest(Path(__file__).parent.parent)
    return hashlib.sha256(json.dumps([own, packs]).encode()).hexdigest()


def work(call: Mapping[str, Any]) -> dict[str, Any]:
    """Do `call` and say what came of it: errors are said, too, and not raised.

    `call` has `function`, `arguments`, `alone`, `threads`, `variables`, `plugins` (distributions that may
    bring packs; None: all), and `code`, `own_code` of the caller: a node with another one refuses.
    """
    names = call["plugins"]
    with registry.allowing(Allowed(None if names is None else frozenset(names), "the caller leaves it out")):
        return _done(call)


def _done(call: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"host": socket.gethostname(), "seconds": 0.0, "waited": 0.0}
    if own_code() != call["code"]:
        why = f"graphopt on {said['host']}, or a plugin of it, is not the caller's version"
        return said | {"error": why, "code": 4}
    for name in PASSED_ON:
        os.environ.pop(name, None)
    os.environ.update(call["variables"], **dict.fromkeys(_THREADS, str(call["threads"])))
    came = time.perf_counter()
    with machine_to_itself() if call["alone"] else machine_with_others():
        began = time.perf_counter()
        try:
            with _limited(call["threads"]):
                said["value"] = _named(call["function"])(**call["arguments"])
        except GraphoptError as error:
            said |= {"error": str(error), "code": error.exit_code}
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            said |= {"error": text, "code": BUG}
        return said | {"seconds": time.perf_counter() - began, "waited": began - came}


def _named(function: str) -> Any:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _limited(threads: int) -> Any:
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=threads)
