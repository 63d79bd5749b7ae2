"""An engine for tests: onnxruntime, in a worker, as if it could not live beside graphopt's.

What it compiles is a line with the graph's place. Feeds may ask it to misbehave: `x` of -1 ends the process,
-2 hangs, -3 prints and ends it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

HEADER = b"compiled\n"


def facts(device: str = "CPU") -> dict[str, str]:
    return {"engine": ort.__version__, "device": device}


def build(source: str, out: str, settings: dict[str, Any]) -> dict[str, str]:
    _session(Path(source), settings)
    Path(out).write_bytes(HEADER + os.fsencode(source))
    return facts(settings["device"])


def load(path: str, settings: dict[str, Any]) -> Model:
    file = Path(path)
    if not path.endswith(".onnx"):
        assert file.read_bytes().startswith(HEADER)
        file = next(file.parent.glob(f"{file.name.partition('.')[0]}.onnx"))
    return Model(_session(file, settings))


def _session(path: Path, settings: dict[str, Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = settings.get("threads", 1)
    for name, size in settings.get("sizes", {}).items():
        options.add_free_dimension_override_by_name(name, size)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Model:
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def run(self, feeds: dict[str, np.ndarray], wanted: list[str]) -> dict[str, np.ndarray]:
        first = feeds.get("x")
        if first is not None and first.size:
            match float(first.flat[0]):
                case -1.0:
                    os._exit(3)
                case -2.0:
                    time.sleep(600)
                case -3.0:
                    print("what it said last", file=sys.stderr, flush=True)
                    os.abort()
        return dict(zip(wanted, self._session.run(wanted, feeds), strict=True))

    def facts(self) -> dict[str, str]:
        return facts()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"name": "whole", "inputs": [], "type": "Graph", "precision": "f32"}]
