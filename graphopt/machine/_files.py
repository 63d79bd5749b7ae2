"""Profiles in files: those that graphopt keeps of this machine, that others share, and that are cited."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from graphopt.errors import BadInput
from graphopt.io import cache_folder, nearest, read_json, read_toml
from graphopt.machine._profile import Profile

if TYPE_CHECKING:
    from graphopt.targets import Target

__all__ = ["keep_profile", "known_profile", "load_profile", "profile_names", "read_profile", "write_profile"]

_SHEETS = Path(__file__).with_name("sheets")
_VERSION = 1
_LARGEST = 1 << 24
"""Bytes of a file that is read. A full profile has a hundredth."""
_HINT = "Measure one with `graphopt targets profile`."


def profile_names() -> list[str]:
    """Names of machines that are cited from data sheets."""
    return sorted(path.stem for path in _SHEETS.glob("*.toml"))


def load_profile(name: str | Path) -> Profile:
    """The profile of a machine that is cited by `name`, or in a file that may come from anyone.

    `BadInput` where there is no such machine or file, or the file holds no profile of this version.
    """
    path = Path(name)
    if str(name) in profile_names():
        path = _SHEETS / f"{name}.toml"
    elif not path.is_file():
        near = nearest(str(name), profile_names())
        raise BadInput(
            f"there is no machine {str(name)!r}, and no such file",
            hint=f"Did you mean {near}?" if near else f"Cited are: {', '.join(profile_names())}.",
        )
    return read_profile(path)


def read_profile(path: Path) -> Profile:
    """The profile in a file, .toml or JSON. `BadInput` says what is wrong with it."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{path} is too large for a profile")
        data = read_toml(path) if path.suffix == ".toml" else read_json(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    return _valid(data, path)


def _valid(data: Mapping[str, Any], path: Path) -> Profile:
    version = data.get("version")
    if type(version) is not int:
        raise BadInput(f"{path} is no profile of a machine: it says no version", hint=_HINT)
    if version != _VERSION:
        raise BadInput(
            f"{path} is a profile of version {version}, and this graphopt reads version {_VERSION}",
            hint=_HINT,
        )
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise BadInput(f"{path} is no profile of a machine: {what}", hint=_HINT) from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write `profile` as JSON, to be read on any machine. A file that is there is replaced whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(profile.model_dump_json(indent=1, exclude_defaults=False) + "\n", encoding="utf-8")
    partial.replace(path)


def keep_profile(profile: Profile) -> Path:
    """Keep `profile` below graphopt's cache folder, for `known_profile`."""
    path = _place(profile.target, profile.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_profile(profile, path)
    return path


def known_profile(target: Target, threads: int | None = None) -> Profile | None:
    """What was measured of this machine, with this build of the runtime and these kernels; it measures
    nothing. None where that was never, or not with so many `threads`; or what is kept is damaged."""
    identity = target.fingerprint()
    path = _place(target.name, identity)
    try:
        profile = read_profile(path)
    except BadInput:
        return None
    if profile.target != target.name or profile.identity != identity:
        return None
    return profile if threads is None or any(threads in tier.read for tier in profile.tiers) else None


def _place(target: str, identity: Mapping[str, str]) -> Path:
    said = json.dumps([_VERSION, target, dict(sorted(identity.items()))])
    return cache_folder() / "profiles" / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.json"
