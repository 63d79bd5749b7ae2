"""What the libraries below would report of a user's models and machine stays off."""

from __future__ import annotations

import os
import sys

__all__ = ["keep_quiet"]

_CHOICE = "GRAPHOPT_TELEMETRY"
_RUNTIME = "onnxruntime"
_RUNTIMES = (_RUNTIME, "onnxruntime_genai")


def keep_quiet() -> None:
    """Keep onnxruntime, onnxruntime-genai and huggingface_hub from reporting, here and in child processes.

    The runtimes read their variable when they are imported: one that is there already may have written a
    device id and an event, and is told to send no more but what it calls essential. With
    GRAPHOPT_TELEMETRY=onnxruntime both runtimes are left as they are; what the user has set himself stays.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if os.environ.get(_CHOICE) == _RUNTIME:
        return
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    for name in _RUNTIMES:
        if name in sys.modules:
            getattr(sys.modules[name], "disable_telemetry_events", lambda: None)()
