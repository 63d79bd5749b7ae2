"""Who may use the machine at the same time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphopt.sweep import _room
from graphopt.sweep._room import lock_folder, machine_to_itself, machine_with_others

CHILD = """
import sys, time
from pathlib import Path
from graphopt.sweep import _room
folder = Path(sys.argv[1])
_room.lock_folder = lambda: folder
with getattr(_room, sys.argv[2])():
    began = time.time()
    (folder / f"in-{sys.argv[3]}").touch()
    time.sleep(float(sys.argv[4]))
    (folder / f"out-{sys.argv[3]}").write_text(f"{began} {time.time()}")
"""


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of locks that no other process of this machine has."""
    monkeypatch.setattr(_room, "lock_folder", lambda: tmp_path)
    return tmp_path


def start(locks: Path, way: str, name: str, seconds: float = 0.3) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(locks), way, name, str(seconds)])


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def span(locks: Path, name: str) -> tuple[float, float]:
    began, ended = (locks / f"out-{name}").read_text().split()
    return float(began), float(ended)


def test_what_is_timed_has_the_machine_to_itself(locks: Path) -> None:
    children = [
        start(locks, way, f"{way}{i}")
        for i in range(2)
        for way in ("machine_to_itself", "machine_with_others")
    ]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]

    alone = [span(locks, f"machine_to_itself{i}") for i in range(2)]
    others = [span(locks, f"machine_with_others{i}") for i in range(2)]
    for began, ended in alone:
        for other_began, other_ended in [*others, *(span for span in alone if span != (began, ended))]:
            assert ended <= other_began or other_ended <= began


def test_others_share_it(locks: Path) -> None:
    with machine_with_others():
        assert start(locks, "machine_with_others", "second", 0).wait(60) == 0


def test_who_is_killed_leaves_it(locks: Path) -> None:
    child = start(locks, "machine_to_itself", "killed", 600)
    wait_for(locks / "in-killed")
    child.kill()
    child.wait()

    with machine_to_itself():
        pass


def test_who_waits_for_it_goes_before_those_who_come_later(locks: Path) -> None:
    with machine_with_others():
        waiting = start(locks, "machine_to_itself", "waiting")
        time.sleep(1.5)
        assert not (locks / "in-waiting").exists()
        late = start(locks, "machine_with_others", "late")
        time.sleep(1.5)
    assert (waiting.wait(60), late.wait(60)) == (0, 0)

    assert span(locks, "waiting")[1] <= span(locks, "late")[0]


def test_locks_are_where_no_variable_sends_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = lock_folder()
    for name in ("TMPDIR", "XDG_RUNTIME_DIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))

    assert lock_folder() == before
    assert before.stat().st_mode & 0o077 == 0
