"""What is going on, and how long it takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Clock", "Progress"]

Progress = Callable[[str], None]


@dataclass
class Clock:
    """Tells what is going on, and keeps the seconds of each phase."""

    say: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Say `text` and count what happens inside as the phase `name`."""
        self.say(text)
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
