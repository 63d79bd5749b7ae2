"""Computes the package list: every folder of each source tree, under the name it is installed by.

`pyproject.toml` holds everything else. A typed list would forget a new folder silently: the editable install
goes on working and only the wheel lacks it.
"""

from setuptools import find_namespace_packages, setup

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


setup(
    packages=[name for installed, folder in SOURCES.items() for name in packages(installed, folder)],
    package_dir=SOURCES,
    package_data={"": ["*"]},
    exclude_package_data={"": ["*.pyc"]},
)
