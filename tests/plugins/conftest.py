"""An environment with nothing of its own, into which plugins are installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests._cache import ROOT

SAMPLE = ROOT / "tests" / "plugins" / "graphopt-sample"


@dataclass
class Environment:
    """A Python environment that borrows this one's packages, graphopt among them.

    With `programs`, those of `tests._warm`, the command line is run by a fork that finds what is in it.
    """

    python: Path
    pretended: list[Path] = field(default_factory=list)
    programs: Path | None = None

    @classmethod
    def create(cls, home: Path) -> Environment:
        venv.create(home, with_pip=False, symlinks=True)
        site = cls._site(home)
        # addsitedir also reads the .pth files there, which a line of a .pth file alone would not.
        borrowed = sysconfig.get_paths()["purelib"]
        (site / "borrowed.pth").write_text(f"import site; site.addsitedir({borrowed!r})\n")
        return cls(home / "bin" / "python")

    @staticmethod
    def _site(home: Path) -> Path:
        return Path(sysconfig.get_paths("venv", {"base": str(home), "platbase": str(home)})["purelib"])

    def install(self, *arguments: str | Path) -> None:
        """`pip install` without an index, with the build tools of this environment."""
        offline = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
        command = [sys.executable, "-m", "pip", "--python", self.python, "install", *offline, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def pretend(self, folder: Path, distribution: str, source: str, group: str = "graphopt.passes") -> None:
        """What an installation of a one-module `distribution` would leave: the module and its metadata."""
        module = distribution.replace("-", "_")
        (folder / f"{module}-0.1.dist-info").mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        info = folder / f"{module}-0.1.dist-info"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{distribution} = {module}:PACK\n")
        self.pretended.append(folder)

    def run(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS`."""
        return self._run(self.python, arguments, self.pretended, cwd)

    def graphopt(self, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        if self.programs is None:
            return self.run("-m", "graphopt", *arguments, cwd=cwd)
        found = [*self.pretended, self._site(self.python.parent.parent)]
        return self._run(self.programs / "graphopt", arguments, found, cwd)

    @staticmethod
    def _run(
        program: Path, arguments: Sequence[str | Path], found: Sequence[Path], cwd: Path
    ) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        path = os.pathsep.join(map(str, found))
        return subprocess.run(
            [program, *arguments],
            cwd=cwd,
            env=kept | ({"PYTHONPATH": path} if path else {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def with_sample(tmp_path_factory: pytest.TempPathFactory, warm_programs: Path) -> Environment:
    """An environment with the sample plugin in it. Install nothing more into it."""
    folder = tmp_path_factory.mktemp("plugin")
    made = Environment.create(folder / "venv")
    copy = folder / "source"
    # A build leaves files beside the source.
    for path in SAMPLE.rglob("*"):
        if path.is_file() and path.suffix in {".py", ".toml", ".txt"} and "egg-info" not in str(path):
            target = copy / path.relative_to(SAMPLE)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    made.install(copy)
    made.programs = warm_programs
    return made


@pytest.fixture
def empty(with_sample: Environment) -> Environment:
    """The environment of `with_sample`, to pretend more installations in."""
    return Environment(with_sample.python, programs=with_sample.programs)


@pytest.fixture
def pretend(empty: Environment, tmp_path: Path) -> Callable[..., Environment]:
    """`pretend(distribution, source)`: an environment with the sample and, seemingly, a one-module plugin."""

    def pretend(distribution: str, source: str, group: str = "graphopt.passes") -> Environment:
        empty.pretend(tmp_path / distribution, distribution, source, group)
        return empty

    return pretend
