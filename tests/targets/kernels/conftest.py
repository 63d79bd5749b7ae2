"""The forms that kernels are compiled in, each of which a test runs in, whatever this processor has."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphopt_targets.cpu.kernels import _library, kernels_name, library

from graphopt import BadInput
from tests._cache import ROOT, Cache, digest_of

KERNELS = ROOT / "targets" / "cpu" / "kernels"
AVX_VNNI = "graphopt-avx-vnni"
OF_OTHER_FORMS = {
    *("attention", "convolution", "full_attention", "matmul_nbits", "row_product"),
    "avx2_matmul_nbits",
}


def of_avx512() -> Path:
    """The library with the form for AVX-VNNI encoded as AVX512 has it, for processors with just that.

    It differs from the form that is installed in nothing but the encoding of two instructions. Forms of which
    it has nothing are there to be linked, and not optimized, which takes most of the time.
    """
    files = sorted(KERNELS.glob("**/*.c"))

    def build(folder: Path) -> None:
        command = ["cc", "-std=c11", "-fPIC", "-fvisibility=hidden", "-DVNNI_OF_AVX512"]
        others = [path for path in files if path.stem in OF_OTHER_FORMS]
        subprocess.run([*command, "-O0", "-c", *map(str, others)], cwd=folder, check=True)
        objects = [folder / f"{path.stem}.o" for path in others]
        rest = map(str, [*(path for path in files if path not in others), *objects])
        subprocess.run([*command, "-O2", "-shared", *rest, "-lm", "-o", folder / "kernels.so"], check=True)

    cache = Cache("kernels-" + digest_of(KERNELS.glob("**/*.[ch]")))
    return cache.get("vnni-of-avx512", build) / "kernels.so"


def runs(name: str) -> bool:
    try:
        return library() is not None and kernels_name() == name
    except BadInput:
        return False


@pytest.fixture(scope="module")
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """The form by the name of the parameter; the test is skipped where it cannot run."""
    name: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPT_KERNELS", name)
        if not runs(name) and name == AVX_VNNI and shutil.which("cc") and runs_elsewhere():
            built = of_avx512()
            patch.setattr(_library, "_compiled", lambda: built)
        if not runs(name):
            pytest.skip(f"no compiler here, or the processor has no form {name}")
        yield name


def runs_elsewhere() -> bool:
    """Whether this processor has the instructions of AVX-VNNI as AVX512's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHOPT_KERNELS", "graphopt-avx512-vnni")
        return runs("graphopt-avx512-vnni")
