"""The kernels neither read nor write beyond their buffers, at many sizes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from graphopt_targets.cpu.kernels import library

from tests._cache import ROOT

KERNELS = ROOT / "targets" / "cpu" / "kernels"
COMPILER = shutil.which("cc")


@pytest.mark.skipif(library() is None or COMPILER is None, reason="no compiler here, or no AVX512-VNNI")
def test_the_address_sanitizer_finds_nothing(tmp_path: Path) -> None:
    names = [
        *("matmul_nbits.c", "attention.c", "row_product.c", "full_attention.c", "convolution.c"),
        *("enlarge.c", "max_pool.c", "look_up.c", "quantize_blocks.c"),
    ]
    sources = [Path(__file__).with_name("_bounds.c"), *[KERNELS / name for name in names]]
    command = [str(COMPILER), "-std=c11", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run(
        [*command, f"-I{KERNELS}", *map(str, sources), "-lm", "-o", str(tmp_path / "bounds")],
        capture_output=True,
        text=True,
        check=False,
    )
    if "sanitize" in built.stderr or "asan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr

    done = subprocess.run([tmp_path / "bounds"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
