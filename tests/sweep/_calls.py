"""What tests have done on nodes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput


def squared(*, number: int, marks: str, seconds: float = 0.0) -> int:
    """`number` squared, after so many seconds; leaves a file for each time that it ends."""
    began = time.time()
    time.sleep(seconds)
    Path(marks, f"{number}-{os.getpid()}-{time.time_ns()}").write_text(f"{began} {time.time()}")
    return number * number


def held(*, number: int, marks: str, gate: str) -> int:
    """`number` cubed, once there is a file `gate`; leaves a file when it begins."""
    Path(marks, f"begun-{number}-{os.getpid()}").touch()
    end = time.monotonic() + 120
    while not Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.02)
    return number**3


def fails(*, marks: str) -> None:
    _mark(marks)
    raise ValueError("no such luck")


def refuses(*, marks: str) -> None:
    _mark(marks)
    raise BadInput("nothing fits")


def dies(*, marks: str, times: int) -> int:
    """Ends its process without a word, the first so many times."""
    _mark(marks)
    if len(os.listdir(marks)) <= times:
        os._exit(1)
    return 7


def breaks(*, why: str) -> None:
    """Leaves a process behind in which no call can begin."""
    from graphopt.sweep import _work

    def refused(_: Any) -> Any:
        raise OSError(why)

    _work._done = refused  # type: ignore[assignment]


def threads() -> dict[str, Any]:
    from graphopt.runtime import default_threads

    return {"threads": default_threads(), "omp": os.environ["OMP_NUM_THREADS"]}


def niceness() -> int:
    return os.nice(0)


def takes_any_plugin(*, asked: str) -> bool:
    from graphopt.plugins import registry

    return registry.allows_any()


def _mark(marks: str) -> None:
    Path(marks, str(time.time_ns())).touch()
