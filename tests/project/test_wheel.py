"""The wheel holds what git tracks, and what it installs works without the source tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from graphopt.plugins import registry
from tests._cache import ROOT, digest_of

FOLDERS = {
    "graphopt": "graphopt",
    "passes": "graphopt_passes",
    "targets": "graphopt_targets",
    "models": "graphopt_models",
}
COMPILED = [path for path in (ROOT / "targets/cpu/kernels", ROOT / "passes") for path in path.glob("*.so")]
"""Of `make venv`, if there was a compiler."""


def installed_as(name: str) -> str:
    """The path in the wheel of a file of the repository."""
    return re.sub(r"^[^/]+", lambda m: FOLDERS[m[0]], name)


def tracked() -> list[str]:
    """Every tracked file that is still there, relative to the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout to compare with")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def wheel(cached: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A wheel built from a copy of the tracked files alone, but for libraries, which this environment has.

    `scripts/manylinux-wheel` compiles those from tracked files, too.
    """
    names = tracked()

    def build(folder: Path) -> None:
        source = folder / "source"
        for name in names:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
        tag = f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        for path in COMPILED:
            built = source / "build" / tag / installed_as(str(path.relative_to(ROOT)))
            built.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, built)  # newer than its sources: nothing to compile
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--no-index", "--wheel-dir", folder, source], check=True)
        shutil.rmtree(source)

    files = [*COMPILED, *(ROOT / name for name in names if not name.startswith("tests/"))]
    (built,) = cached("wheel-" + digest_of(files, *names), build).glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel; its dependencies are borrowed from this one."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*command, wheel], check=True)
    paths = sysconfig.get_paths("venv", {"base": str(home), "platbase": str(home)})
    Path(paths["purelib"], "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home / "bin"


def run(*command: str | Path) -> str:
    """Standard output of a command that must succeed outside the source tree."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_exactly_the_tracked_files(wheel: Path) -> None:
    expected = {installed_as(name) for name in tracked() if name.split("/")[0] in FOLDERS}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    compiled = {name for name in held if name.endswith(".so")}

    assert held - compiled == expected
    known = ["graphopt_passes/_compiled", "graphopt_targets/cpu/kernels/_compiled"]
    assert sorted(name.split(".")[0] for name in compiled) in ([], known)


def test_the_compiled_libraries_are_for_any_python_and_an_old_glibc(wheel: Path) -> None:
    """What `scripts/manylinux-wheel` needs: nothing of Python, and no function later than glibc 2.17."""
    archive = zipfile.ZipFile(wheel)
    compiled = [name for name in archive.namelist() if name.endswith(".so")]
    if not compiled:
        pytest.skip("no compiler here")

    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    for name in compiled:
        content = archive.read(name)
        needed = {tuple(map(int, one)) for one in re.findall(rb"GLIBC_(\d+)\.(\d+)", content)}
        assert name.endswith("/_compiled.abi3.so")
        assert needed
        assert max(needed) <= (2, 17)


def test_the_wheel_carries_the_licences(wheel: Path) -> None:
    names = [
        name.split("/licenses/")[-1] for name in zipfile.ZipFile(wheel).namelist() if "/licenses/" in name
    ]

    assert sorted(names) == ["LICENSE", "graphopt/report/page/charts.LICENSE", "models/tiny_coder/NOTICE"]


def test_the_installed_command_answers(installed: Path) -> None:
    assert version("graphopt") in run(installed / "graphopt", "--version")


def test_the_installed_kernels_are_those_of_the_environment(installed: Path) -> None:
    script = (
        "from graphopt.plugins import registry\nprint(registry.targets()['cpu']().fingerprint()['kernels'])"
    )
    here = registry.targets()["cpu"]().fingerprint()["kernels"]

    assert run(installed / "python", "-c", script).strip() == here


def test_the_installed_packs_are_found_where_they_were_installed(installed: Path) -> None:
    script = (
        "import graphopt\n"
        "from graphopt.plugins import registry\n"
        "print(graphopt.__file__)\n"
        "for path in [*registry.recipes().values(), *registry.embedded_models().values()]:\n"
        "    assert path.exists(), path\n"
        "    print(path)\n"
        "print(len(registry.passes()), len(registry.targets()), len(registry.families()))\n"
    )
    *paths, counts = run(installed / "python", "-c", script).splitlines()

    assert len(paths) > 2
    assert all(path.startswith(str(installed.parent)) for path in paths)
    assert all(int(count) > 0 for count in counts.split())
