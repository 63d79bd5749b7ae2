"""Profiles in files, which may come from anyone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphopt.errors import BadInput
from graphopt.machine import (
    keep_profile,
    known_profile,
    load_profile,
    profile_names,
    read_profile,
    write_profile,
)
from graphopt.plugins import registry
from graphopt.targets import Target
from tests.machine._profiles import profile


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path / "cache"))
    return registry.targets()["cpu"]()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    write_profile(profile(), path)
    assert read_profile(path) == profile()
    assert load_profile(path) == profile()


def said(tmp_path: Path, **changes: Any) -> str:
    """What is wrong with a profile in which a top-level key is something else."""
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(profile().model_dump(mode="json") | changes))
    with pytest.raises(BadInput) as error:
        read_profile(path)
    assert error.value.exit_code == 2
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "is a profile of version 2, and this graphopt reads version 1"),
        ({"version": None}, "says no version"),
        ({"version": True}, "says no version"),
        ({"tiers": []}, "tiers"),
        ({"tiers": [{"name": "DRAM", "bytes": 1, "read": {}}]}, "nothing says how fast DRAM"),
        ({"peaks": {"fp32": {"1": {"value": 1, "low": 0, "high": 1}}}}, "is 0"),
        ({"memory_bytes": -1}, "memory_bytes: Input should be greater than or equal to 0"),
        ({"memory_bytes": 1e300}, "memory_bytes"),
        ({"seconds": float("nan")}, "seconds: Input should be a finite number"),
        ({"seconds": float("inf")}, "seconds: Input should be a finite number"),
        ({"kind": "guessed"}, "kind"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"noise": {"value": 1, "low": 2, "high": 3}}, "does not lie between"),
        ({"noise": {"value": 1, "low": -1, "high": 3}}, "noise.low"),
        ({"watts": {"value": "many", "low": 1, "high": 3}}, "watts.value"),
        ({"dispatch": {"-1": {"value": 1, "low": 1, "high": 1}}}, "dispatch"),
        ({"sources": {"a": {"title": "b", "publisher": "c", "date": "soon"}}}, "sources.a.date"),
    ],
)
def test_what_is_no_profile_is_said(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    assert words in said(tmp_path, **changes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "does not hold a JSON object"),
        (b'{"version": ' + b"[" * 100_000, "is not JSON"),
        (b'{"version": 1' + b"0" * 5000 + b"}", "is not JSON"),
        (b"{}", "says no version"),
        (b'{"version": 1}', "Field required"),
        (b" " * ((1 << 24) + 1), "too large"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "machine.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read_profile(path)


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_profile(tmp_path)


def test_a_mistyped_machine_is_told_apart() -> None:
    assert "h200" in profile_names()
    with pytest.raises(BadInput, match=r"Did you mean h200"):
        load_profile("h20")
    with pytest.raises(BadInput, match="no such file"):
        load_profile("nowhere/machine.json")


def test_this_machine_is_known_by_its_identity(target: Target) -> None:
    assert known_profile(target) is None
    keep_profile(profile(identity=target.fingerprint()))
    assert known_profile(target) is not None
    assert known_profile(target, 1) is not None
    assert known_profile(target, 7) is None, "nothing was measured with 7 threads"


def test_a_profile_of_another_machine_is_not_this_one(target: Target) -> None:
    place = keep_profile(profile(identity=target.fingerprint()))
    write_profile(profile(identity={"processor": "another"}), place)
    assert known_profile(target) is None
    assert load_profile(place).identity == {"processor": "another"}, "asked for by name, it is taken"


def test_another_runtime_or_other_kernels_are_another_machine(target: Target) -> None:
    for key in ("onnxruntime", "kernels", "threads", "quota"):
        keep_profile(profile(identity=target.fingerprint() | {key: "another"}))
    assert known_profile(target) is None


def test_what_is_kept_and_damaged_is_not_believed(target: Target) -> None:
    place = keep_profile(profile(identity=target.fingerprint()))
    place.write_text(place.read_text()[:-20])
    assert known_profile(target) is None
