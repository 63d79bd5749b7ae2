"""A folder written whole or not at all: built in a hidden folder beside its destination, then swapped in."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import BadInput, EnvironmentProblem, GraphoptError
from graphopt.io import exclusive, sync
from graphopt.package._manifest import MANIFEST
from graphopt.package._swap import install, recover

__all__ = ["Staging", "check_destination", "staged", "staged_aside"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Staging:
    """Where to build: `package` becomes the destination; `scratch` is thrown away in any case."""

    package: Path
    scratch: Path

    def clear(self) -> None:
        """Take away all that was built."""
        for folder in (self.package, self.scratch):
            shutil.rmtree(folder)
            folder.mkdir()


@contextlib.contextmanager
def staged(out: Path, *, force: bool = False, source: Path | None = None) -> Iterator[Staging]:
    """Build a package folder at `out`: the body fills `package`, and leaving it normally swaps that in.

    Whatever goes wrong in the body, `out` stays as it was and nothing is left beside it; what a killed run
    left there goes away on the next. Raises what `check_destination` raises, and `EnvironmentProblem` where
    the disk is full.
    """
    out = out.resolve()
    check_destination(out, force=force, source=source)
    with _made_parents(out.parent), _working_folder(out) as work:
        staging = Staging(work / "package", work / "scratch")
        try:
            staging.package.mkdir()
            staging.scratch.mkdir()
            yield staging
            sync(staging.package)
            _refuse(out, force, source)
            install(staging.package, out, work / "aside")
        except OSError as error:
            if error.errno in _FULL:
                raise _disk_full(error, out) from error
            raise
        finally:
            recover(out, work / "aside")


@contextlib.contextmanager
def staged_aside() -> Iterator[Staging]:
    """Folders of a package that is made for what is found out on the way: nothing of it stays."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        staging = Staging(Path(folder, "package"), Path(folder, "scratch"))
        staging.package.mkdir()
        staging.scratch.mkdir()
        yield staging


def check_destination(out: Path, *, force: bool = False, source: Path | None = None) -> None:
    """Repair what killed runs left at and beside `out`, then raise `BadInput` where `out` may not be written.

    That is: it holds a package and `force` is not given; it holds something else; `source` or the current
    folder lies in it; it is a file or a mount point.
    """
    out = out.resolve()
    for work in out.parent.glob(f"{_prefix(glob.escape(out.name))}*"):
        with exclusive(work) as ours:
            if ours:
                recover(out, work / "aside")
                shutil.rmtree(work, ignore_errors=True)
    _refuse(out, force, source)


def _prefix(name: str) -> str:
    return f".{name}.graphopt-"


def _refuse(out: Path, force: bool, source: Path | None) -> None:
    if source is not None and source.resolve().is_relative_to(out):
        raise BadInput(f"the source {source} lies in the output folder {out}", hint="Choose another -o.")
    if Path.cwd().is_relative_to(out):
        raise BadInput(f"the output folder {out} is, or holds, the current folder", hint="Choose another -o.")
    if not out.exists():
        return
    if not out.is_dir():
        raise BadInput(f"output {out} is a file", hint="Choose a folder with -o.")
    if os.path.ismount(out):
        raise BadInput(
            f"output {out} is a mount point and cannot be replaced", hint="Choose a folder inside it."
        )
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise BadInput(
            f"output folder {out} is not empty and is not a graphopt package",
            hint="graphopt only replaces packages, --force or not. Choose another -o.",
        )
    if not force:
        raise BadInput(f"output folder {out} is not empty", hint="Pass --force to replace that package.")


@contextlib.contextmanager
def _made_parents(parent: Path) -> Iterator[None]:
    missing = [p for p in (parent, *parent.parents) if not p.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explained(error, parent) from error
    try:
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def _working_folder(out: Path) -> Iterator[Path]:
    work = out.parent / f"{_prefix(out.name)}{secrets.token_hex(4)}"
    try:
        work.mkdir()
    except OSError as error:
        raise _explained(error, out) from error
    try:
        with exclusive(work):
            yield work
    finally:
        _remove(work)


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _disk_full(error: OSError, out: Path) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"no space left while writing {out}: {error.strerror}",
        hint="Free some space or choose another -o; what stood there is untouched.",
    )


def _explained(error: OSError, out: Path) -> GraphoptError:
    if error.errno in _FULL:
        return _disk_full(error, out)
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return BadInput(f"cannot make the folder {out}: a file is in the way", hint="Choose another -o.")
    return EnvironmentProblem(f"cannot write {out}: {error.strerror}", hint="Choose another -o.")
