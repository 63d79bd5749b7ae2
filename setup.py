"""Computes the package list: every folder of each source tree, under the name it is installed by.

`pyproject.toml` holds everything else. A typed list would forget a new folder silently: the editable install
goes on working and only the wheel lacks it.
"""

import platform
from glob import glob

from setuptools import Extension, find_namespace_packages, setup

SOURCES = {
    "graphopt": "graphopt",
    "graphopt_passes": "passes",
    "graphopt_targets": "targets",
    "graphopt_models": "models",
}


def packages(installed: str, folder: str) -> list[str]:
    """`folder` and every folder below it, data folders included, as dotted installed names."""
    inner = find_namespace_packages(folder, exclude=["__pycache__", "*.__pycache__"])
    return [installed, *(f"{installed}.{name}" for name in inner)]


# Rounding gives the bits that numpy gives: no product and sum become one.
ROUNDING = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


def compiled() -> list[Extension]:
    """What the cpu target and the passes load; where it cannot be compiled, graphopt does without.

    There is nothing of Python in it. Which instructions it may use is checked where it runs.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return []
    kernels, passes = "targets/cpu/kernels", "passes"
    return [
        library("graphopt_targets.cpu.kernels._compiled", kernels),
        library("graphopt_passes._compiled", passes, *ROUNDING),
    ]


def library(name: str, folder: str, *options: str) -> Extension:
    """The C files of `folder`, for every version of Python: `_compiled.abi3.so`."""
    return Extension(
        name,
        sorted(glob(f"{folder}/**/*.c", recursive=True)),
        depends=sorted(glob(f"{folder}/*.[ch]")),
        extra_compile_args=["-std=c11", "-O3", "-g0", "-fvisibility=hidden", *options],
        optional=True,
        py_limited_api=True,
    )


setup(
    packages=[name for installed, folder in SOURCES.items() for name in packages(installed, folder)],
    package_dir=SOURCES,
    ext_modules=compiled(),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    package_data={"": ["*"]},
    exclude_package_data={"": ["*.pyc"]},
)
