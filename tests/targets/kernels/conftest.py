"""The forms that kernels are compiled in, each of which a test runs in, whatever this processor has."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from graphopt_targets.cpu.kernels import _library, kernels_name, library

from graphopt import BadInput
from tests._cache import ROOT

KERNELS = ROOT / "targets" / "cpu" / "kernels"
AVX_VNNI = "graphopt-avx-vnni"

Cached = Callable[[str, Callable[[Path], None]], Path]


def of_avx512(cached: Cached) -> Path:
    """The library with the form for AVX-VNNI encoded as AVX512 has it, for processors with just that.

    It differs from the form that is installed in nothing but the encoding of two instructions.
    """

    def build(folder: Path) -> None:
        files = map(str, sorted(KERNELS.glob("**/*.c")))
        command = ["cc", "-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-DVNNI_OF_AVX512"]
        subprocess.run([*command, *files, "-lm", "-o", str(folder / "kernels.so")], check=True)

    return cached("vnni-of-avx512", build) / "kernels.so"


def runs(name: str) -> bool:
    try:
        return library() is not None and kernels_name() == name
    except BadInput:
        return False


@pytest.fixture(scope="module")
def form(request: pytest.FixtureRequest, cached: Cached) -> Iterator[str]:
    """The form by the name of the parameter; the test is skipped where it cannot run."""
    name: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPT_KERNELS", name)
        if not runs(name) and name == AVX_VNNI and shutil.which("cc") and runs_elsewhere():
            built = of_avx512(cached)
            patch.setattr(_library, "_compiled", lambda: built)
        if not runs(name):
            pytest.skip(f"no compiler here, or the processor has no form {name}")
        yield name


def runs_elsewhere() -> bool:
    """Whether this processor has the instructions of AVX-VNNI as AVX512's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPT_KERNELS", "graphopt-avx512-vnni")
        return runs("graphopt-avx512-vnni")
