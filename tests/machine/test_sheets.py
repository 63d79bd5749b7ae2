"""Machines that are cited: every number has a source, and says how sure it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphopt.machine import Interval, Profile, load_profile, profile_names


def numbers(profile: Profile) -> Iterator[tuple[str, Interval | None]]:
    """The path of each number that a sheet says, as its sources name it."""
    yield "memory_bytes", None
    for tier in profile.tiers:
        yield f"tiers.{tier.name}", next(iter(tier.read.values()), None)
    for kind, rates in profile.peaks.items():
        yield f"peaks.{kind}", next(iter(rates.values()))
    for name, rate in profile.links.items():
        yield f"links.{name}", rate
    for name in ("watts", "price_per_hour"):
        if (found := getattr(profile, name)) is not None:
            yield name, found


@pytest.mark.parametrize("name", profile_names())
def test_every_number_has_a_source(name: str) -> None:
    profile = load_profile(name)
    assert profile.kind == "cited"
    assert profile.name == name
    paths = {path for path, _ in numbers(profile)}
    assert paths <= profile.sources.keys()
    ends = {f"{path}.{end}" for path in paths for end in ("value", "low", "high")}
    assert profile.sources.keys() <= paths | ends, "no source of what is not there"
    for source in profile.sources.values():
        assert source.title
        assert source.publisher
        assert source.address.startswith("http")


@pytest.mark.parametrize("name", profile_names())
def test_what_a_data_sheet_says_is_the_upper_end(name: str) -> None:
    for path, rate in numbers(load_profile(name)):
        if rate is not None and path != "price_per_hour":
            assert rate.low <= 0.8 * rate.high, path


def test_there_are_machines_of_each_kind() -> None:
    targets = {load_profile(name).target for name in profile_names()}
    assert {"cpu", "cuda", "migraphx", "coreml", "qnn"} <= targets
