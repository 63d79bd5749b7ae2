"""The kernels neither read nor write beyond their buffers, at many sizes, in every form."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from graphopt_targets.cpu.kernels import library

from tests._cache import ROOT, digest_of
from tests.targets.kernels._forms import THREE

KERNELS = ROOT / "targets" / "cpu" / "kernels"
COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def program(cached: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """All kernels with the address sanitizer; AVX-VNNI's encoded as AVX512 has it."""
    tried = Path(__file__).with_name("_bounds.c")
    files = [path for path in sorted(KERNELS.glob("**/*.c")) if not path.name.startswith("ort_")]

    def build(folder: Path) -> None:
        command = [str(COMPILER), "-std=c11", "-O0", "-fsanitize=address,undefined"]
        command += ["-fno-sanitize-recover=all", "-DVNNI_OF_AVX512", f"-I{KERNELS}"]
        words = [*command, *map(str, (tried, *files)), "-lm", "-o", str(folder / "bounds")]
        built = subprocess.run(words, capture_output=True, text=True, check=False)
        if "sanitize" in built.stderr or "asan" in built.stderr:
            pytest.skip("the compiler has no sanitizers")
        assert built.returncode == 0, built.stderr

    return cached("bounds-" + digest_of([tried]), build) / "bounds"


@pytest.mark.long
@pytest.mark.skipif(library() is None or COMPILER is None, reason="no compiler here, or no AVX2")
@pytest.mark.parametrize("form", THREE)
def test_the_address_sanitizer_finds_nothing(form: str, program: Path) -> None:
    environment = os.environ | {"GRAPHOPT_KERNELS": form}

    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)

    if done.returncode == 2:
        pytest.skip(f"this processor has no form {form}")
    assert done.returncode == 0, done.stderr
