"""Make the environments of peers that do not live in the project's, below build/peers.

    python benchmarks/peers.py                 # all; compiling llama.cpp takes ten minutes
    python benchmarks/peers.py llama

Versions are pinned here, because a table has to mean the same tomorrow. An environment that is whole is kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent / "build" / "peers"
_LLAMA = ["--no-binary", "llama-cpp-python", "llama-cpp-python==0.3.36", "gguf==0.19.0"]
ENVIRONMENTS = {
    # From source, for this machine's instructions (-march=native); a wheel would be for any.
    "llama": _LLAMA,
    # The same for processors that have AVX2 and no AVX512: decode.py --avx2.
    "llama-avx2": ["--no-cache-dir", *_LLAMA],
    "openvino": ["openvino==2026.4.1", "nncf==3.4.0"],
    "optimizers": [
        *("onnxsim==0.8.1", "onnxslim==0.1.98", "onnxoptimizer==0.4.2", "onnxscript==0.7.2"),
        *("onnx==1.23.2", "onnxruntime==1.32.0"),
    ],
    "auto-round": ["torch==2.13.0", "auto-round==0.16.0", "transformers==5.24.0"],
    "gptqmodel": ["--no-build-isolation", "torch==2.13.0", "gptqmodel==7.6.0", "transformers==5.24.0"],
}
# What has to be there before the others are built.
FIRST = {"gptqmodel": ["setuptools==84.2.1", "wheel==0.48.0", "torch==2.13.0"]}
_WITHOUT = "-DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF"
_NARROW = "-DGGML_NATIVE=OFF -DGGML_AVX512=OFF -DGGML_AVX_VNNI=OFF"
_AVX2 = "-DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
CMAKE_ARGS = {"llama": f"-DGGML_NATIVE=ON {_WITHOUT}", "llama-avx2": f"{_NARROW} {_AVX2} {_WITHOUT}"}


def python(name: str) -> Path:
    """The interpreter of an environment, which may not exist yet."""
    return ROOT / name / "bin" / "python"


def make(name: str) -> None:
    """Make the environment unless it is whole and has these versions."""
    mark, wanted = ROOT / name / ".made", " ".join(ENVIRONMENTS[name])
    if mark.is_file() and mark.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", str(ROOT / name)], check=True)
    pip = [str(python(name)), "-m", "pip", "--disable-pip-version-check", "install"]
    compiling = {"CMAKE_BUILD_PARALLEL_LEVEL": str(len(os.sched_getaffinity(0)))}
    if name in CMAKE_ARGS:
        compiling["CMAKE_ARGS"] = CMAKE_ARGS[name]
    for words in (FIRST.get(name), ENVIRONMENTS[name]):
        if words:
            subprocess.run([*pip, *words], check=True, env=compiling | os.environ)
    mark.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENVIRONMENTS))
    for name in parser.parse_args().names or ENVIRONMENTS:
        make(name)


if __name__ == "__main__":
    main()
