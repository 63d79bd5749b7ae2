"""What a profile foretells is shown beside what is measured, and kept for the next time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from graphopt.evaluate import Measurement, _processes, measure_speed
from graphopt.evaluate import _foretold as module
from graphopt.machine import keep_profile, known_profile
from graphopt.plugins import registry
from graphopt.targets import Target
from tests.cost._machine import near, profile

SECONDS = 4.0


class _Stream:
    """Memory that is asked for nothing."""

    def sample(self, threads: int) -> float:
        return 25e9


class _Pulse:
    """Cores that are half as fast as their profile says."""

    def __init__(self, target: Target) -> None:
        self.samples: dict[int, list[float]] = {}

    def sample(self, threads: int) -> float:
        self.samples.setdefault(threads, []).append(2e-4)
        return 2e-4


@pytest.fixture(autouse=True)
def warm_workers() -> None:
    """None are needed."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a machine of which nothing is really measured."""

    def measured(
        jobs: Sequence[object], look: Callable[[], None] = lambda: None, *, seconds: float = 0
    ) -> list[Measurement]:
        look()
        return [
            Measurement(
                load_seconds=(0.02,),
                first_seconds=(SECONDS,),
                step_seconds=((SECONDS, SECONDS),),
                prompt_tokens=32,
                peak_rss=10**9,
                rss=10**9,
            )
            for _ in jobs
        ]

    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    monkeypatch.setattr(_processes, "measured", measured)
    monkeypatch.setattr(module, "Stream", _Stream)
    monkeypatch.setattr(module, "Pulse", _Pulse)
    return tmp_path


def keep(**changes: object) -> None:
    target = registry.targets()["cpu"]()
    keep_profile(profile(identity=target.fingerprint(), **changes))


def test_a_machine_that_was_never_profiled_foretells_nothing(
    here: Path, tiny_coder_at: Callable[[str], Path]
) -> None:
    found = measure_speed(tiny_coder_at("lossless"), prompt_tokens=32, new_tokens=8, rounds=1, threads=1)
    assert found.foretold is None
    assert not (here / "predictions").exists()


def test_what_was_foretold_is_beside_what_was_measured(
    here: Path, tiny_coder_at: Callable[[str], Path]
) -> None:
    keep()
    found = [
        measure_speed(tiny_coder_at("lossless"), prompt_tokens=32, new_tokens=8, rounds=1, threads=1).foretold
        for _ in range(2)
    ]
    first, second = found
    assert first is not None
    assert second is not None
    assert {"ttft", "tpot", "load_time"} <= first.predicted.keys()
    assert "tpot" in first.missed  # the machine of these tests is no real one
    assert first.bandwidth == 25e9
    assert not first.history.metrics
    assert second.history.metrics["tpot"].count == 1
    assert second.history.metrics["tpot"].coverage == 0
    kept = known_profile(registry.targets()["cpu"](), 1)
    assert kept is not None
    assert {one.read for one in kept.memory} == {25e9}


def test_what_is_foretold_follows_the_pulse(here: Path, tiny_coder_at: Callable[[str], Path]) -> None:
    told = []
    for usual in (2e-4, 1e-4):
        keep(pulse={1: near(usual)})
        package = tiny_coder_at("int4")
        found = measure_speed(package, prompt_tokens=32, new_tokens=8, rounds=1, threads=1).foretold
        assert found is not None
        assert found.pulse == 2e-4
        told.append(found.predicted["tpot"].value)
    as_usual, slower = told
    assert 1.2 * as_usual < slower <= 2 * as_usual


def test_it_is_in_what_bench_writes(here: Path, tiny_coder_at: Callable[[str], Path]) -> None:
    keep()
    said = measure_speed(
        tiny_coder_at("lossless"), prompt_tokens=32, new_tokens=8, rounds=1, threads=1
    ).to_json()
    assert set(said["foretold"]["predicted"]["tpot"]) == {"value", "low", "high"}
    assert said["foretold"]["missed"]
