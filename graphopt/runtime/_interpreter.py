"""Interpreters for runtimes that cannot be installed beside graphopt's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import EnvironmentProblem
from graphopt.io import cache_folder

__all__ = ["Interpreter"]

_MADE = "made"
"""The file in an environment that says it is whole."""


@dataclass(frozen=True)
class Interpreter:
    """A Python with one runtime and numpy in it. graphopt is never installed there.

    `requirements` are pinned, as pip takes them. It is what $GRAPHOPT_`NAME`_PYTHON says, or else an
    environment below graphopt's cache that `install` makes.
    """

    name: str
    requirements: tuple[str, ...]

    @property
    def setting(self) -> str:
        """The environment variable that names one."""
        return f"GRAPHOPT_{self.name.upper().replace('-', '_')}_PYTHON"

    @property
    def folder(self) -> Path:
        """Where `install` makes it: another place for other requirements."""
        digest = hashlib.sha256("\n".join(self.requirements).encode()).hexdigest()[:12]
        return cache_folder() / "interpreters" / f"{self.name}-{digest}"

    def python(self) -> Path:
        """Its executable. `EnvironmentProblem` with what to do where there is none."""
        if chosen := os.environ.get(self.setting):
            python = Path(chosen).expanduser()
            if not os.access(python, os.X_OK) or python.is_dir():
                raise EnvironmentProblem(
                    f"{self.setting}={chosen} is no Python", hint=f"It needs {' '.join(self.requirements)}."
                )
            return python
        if not (self.folder / _MADE).is_file():
            raise EnvironmentProblem(
                f"{self.name} needs a Python of its own, with {' '.join(self.requirements)}",
                hint=f"graphopt targets doctor --install {self.name} makes it; "
                f"or let {self.setting} name one.",
            )
        return self.folder / "bin" / "python"

    def install(self) -> Path:
        """Make the environment, unless it is there; its executable.

        `EnvironmentProblem` with pip's last words where it cannot be made, and nothing is left then.
        """
        made = self.folder / _MADE
        if made.is_file():
            return self.python()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        python = str(self.folder / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        try:
            _run([sys.executable, "-m", "venv", str(self.folder)], self.name)
            _run([*pip, *self.requirements], self.name)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        made.write_text("\n".join(self.requirements) + "\n", encoding="utf-8")
        return self.python()


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise EnvironmentProblem(
            f"the Python for {name} cannot be made: {words[-1]}", hint=f"By hand: {' '.join(command)}"
        )
