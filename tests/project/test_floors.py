"""A room of `graphopt` imports from lower floors only, and nothing private of another room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests._cache import ROOT
from tests.project._floors import FLOORS, modules, room_of, upward_imports

MOST_ROOMS = 31


def test_every_import_goes_down() -> None:
    assert upward_imports(ROOT) == []


def test_the_house_has_the_rooms_that_the_floors_say_and_not_many() -> None:
    rooms = [room for floor in FLOORS for room in floor]
    assert sorted(rooms) == sorted({room_of(path, ROOT) for path in modules(ROOT)})
    assert len(rooms) <= MOST_ROOMS


def test_nothing_private_stands_at_the_top() -> None:
    top = {path.stem for path in (ROOT / "graphopt").iterdir() if path.name != "__pycache__"}
    assert {name for name in top if name.startswith("_")} == {"__init__", "__main__"}


@pytest.mark.parametrize(
    ("path", "source", "told"),
    [
        ("ir/_a.py", "from graphopt.cli import main", "ir imports cli"),
        ("ir/_a.py", "from graphopt.io import digest_of", "ir imports io"),
        ("ir/_a.py", "import graphopt.pipeline", "ir imports pipeline"),
        ("ir/_a.py", "from graphopt import build", "ir imports build"),
        ("ir/_a.py", "def f():\n    from graphopt.verify import Window", "ir imports verify"),
        (
            "ir/_a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from graphopt.targets import Target",
            "ir imports targets",
        ),
        ("cli/_a.py", "from graphopt.verify._edits import EditVerifier", "the private verify._edits"),
        ("attic/_a.py", "x = 1", "on no floor"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, path: str, source: str, told: str) -> None:
    file = tmp_path / "graphopt" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    (found,) = upward_imports(tmp_path)
    assert told in found
