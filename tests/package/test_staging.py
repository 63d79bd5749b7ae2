"""A package folder is written whole or not at all, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from graphopt import BadInput, EnvironmentProblem
from graphopt.package import MANIFEST, staged
from graphopt.package import _swap as swap


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def old(out: Path) -> Path:
    """`out`, already holding a package."""
    out.mkdir()
    (out / MANIFEST).write_text("old")
    (out / "weights").write_text("old")
    return out


@pytest.fixture(params=["exchange", "two renames"])
def swapping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of putting the new folder in place of the old."""
    if request.param == "two renames":
        monkeypatch.setattr(swap, "_exchange", lambda a, b: False)
    return str(request.param)


def write(out: Path, *, force: bool = False, source: Path | None = None) -> None:
    with staged(out, force=force, source=source) as staging:
        (staging.package / MANIFEST).write_text("new")
        (staging.scratch / "spill").write_text("x")


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_new_folder_appears_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b")

    assert listing(tmp_path) == ["a", "a/b", f"a/b/{MANIFEST}"]


def test_an_empty_folder_is_filled(out: Path, swapping: str) -> None:
    out.mkdir()
    write(out)

    assert listing(out.parent) == ["out", f"out/{MANIFEST}"]


def test_a_package_is_replaced_whole(old: Path, swapping: str) -> None:
    write(old, force=True)

    assert listing(old.parent) == ["out", f"out/{MANIFEST}"]
    assert (old / MANIFEST).read_text() == "new"


def test_a_link_to_a_package_stays_a_link(old: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(old)
    write(link, force=True)

    assert link.is_symlink()
    assert (old / MANIFEST).read_text() == "new"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_failure_leaves_the_old_package_and_no_debris(old: Path, failure: type[BaseException]) -> None:
    before = listing(old.parent)
    with pytest.raises(failure), staged(old, force=True) as staging:  # noqa: PT012
        (staging.package / "half").write_text("new")
        raise failure

    assert listing(old.parent) == before
    assert (old / MANIFEST).read_text() == "old"


def test_a_failure_takes_the_folders_it_made_with_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged(tmp_path / "a" / "b" / "c"):
        raise RuntimeError

    assert listing(tmp_path) == []


def test_an_interruption_between_the_two_renames_is_undone(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_exchange", lambda a, b: False)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "package":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(old, force=True)

    assert listing(old.parent) == ["out", f"out/{MANIFEST}", "out/weights"]


def test_a_full_disk_is_a_problem_of_the_environment(old: Path) -> None:
    before = listing(old.parent)
    with pytest.raises(EnvironmentProblem, match="no space left"), staged(old, force=True):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert listing(old.parent) == before


def test_a_really_exceeded_quota_leaves_the_old_package(old: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = listing(old.parent)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(EnvironmentProblem, match="no space left"), staged(old, force=True) as staging:
            (staging.package / "model.onnx.data").write_bytes(bytes(8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert listing(old.parent) == before


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from graphopt.package import staged
    from graphopt.package import _swap as swap

    out, where = Path(sys.argv[1]), sys.argv[2]
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    if where == "between":
        swap._exchange = lambda a, b: False
        rename = Path.rename
        Path.rename = lambda self, to: die() if self.name == "package" else rename(self, to)
    with staged(out, force=True) as staging:
        (staging.package / "graphopt.json").write_text("half")
        if where == "before":
            die()
"""


@pytest.mark.parametrize("where", ["before", "between"])
def test_the_next_run_repairs_what_a_killed_one_left(old: Path, where: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(old), where], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(old.parent.iterdir())) > (where == "before")

    with pytest.raises(BadInput, match="not empty"):
        write(old)

    assert listing(old.parent) == ["out", f"out/{MANIFEST}", "out/weights"]
    assert (old / MANIFEST).read_text() == "old"


def test_a_run_in_progress_is_left_alone(out: Path) -> None:
    with staged(out) as first:
        with staged(out) as second:
            (second.package / MANIFEST).write_text("second")
        assert first.package.is_dir()
        (first.package / MANIFEST).write_text("first")
        out.rename(out.parent / "elsewhere")

    assert (out / MANIFEST).read_text() == "first"


def test_a_folder_that_filled_up_meanwhile_is_not_replaced(out: Path) -> None:
    with pytest.raises(BadInput, match="not empty"), staged(out) as staging:  # noqa: PT012
        (staging.package / MANIFEST).write_text("new")
        out.mkdir()
        (out / MANIFEST).write_text("somebody else's")

    assert listing(out.parent) == ["out", f"out/{MANIFEST}"]


def test_a_package_needs_force(old: Path) -> None:
    with pytest.raises(BadInput) as raised:
        write(old)

    assert "--force" in str(raised.value)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_a_package_is_never_replaced(out: Path, force: bool) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="not a graphopt package"):
        write(out, force=force)

    assert (out / "thesis.tex").read_text() == "years of work"


def test_a_file_is_not_replaced(out: Path) -> None:
    out.write_text("a file")
    with pytest.raises(BadInput, match="is a file"):
        write(out, force=True)


def test_a_file_in_the_way_of_a_parent(out: Path) -> None:
    out.write_text("a file")
    with pytest.raises(BadInput, match="a file is in the way"):
        write(out / "deeper")


def test_the_source_is_not_replaced(old: Path) -> None:
    with pytest.raises(BadInput, match="lies in the output folder"):
        write(old, force=True, source=old / "model.onnx")


def test_the_current_folder_is_not_replaced(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old / "inner").mkdir()
    monkeypatch.chdir(old / "inner")
    with pytest.raises(BadInput, match="current folder"):
        write(old, force=True)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        write(tmp_path / "out")
