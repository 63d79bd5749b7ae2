"""The pulse of a target: what a small graph takes at the moment, and what follows for other times."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from graphopt.errors import BadInput
from graphopt.machine import Pulse
from graphopt.plugins import registry


class Never(registry.targets()["cpu"]):  # type: ignore[misc]
    name: ClassVar[str] = "never"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        raise BadInput("no kernels")


def test_a_call_is_timed_and_kept() -> None:
    pulse = Pulse(registry.targets()["cpu"]())
    taken = pulse.sample(1)
    assert 0 < taken < 1
    assert pulse.samples == {1: [taken]}


def test_what_was_measured_on_slow_cores_is_told_as_usual() -> None:
    pulse = Pulse(registry.targets()["cpu"]())
    pulse.reference = {1: 1e-4}
    assert pulse.faster(2e-4, 1) == 0.5
    assert pulse.usual([3.0, 5.0], 2e-4, 1) == [1.5, 2.5]


def test_a_target_that_loads_no_product_has_none() -> None:
    with pytest.raises(BadInput, match="loads no product"):
        Pulse(Never()).sample(1)
