"""Whether what is installed is one onnxruntime, not two over each other."""

from __future__ import annotations

import functools
from importlib.metadata import Distribution, distributions

from graphopt.errors import EnvironmentProblem

__all__ = ["check_installation"]

_WANTED = {"onnxruntime": "onnxruntime", "onnxruntime_genai": "onnxruntime-genai"}


def check_installation(module: str = "onnxruntime") -> None:
    """Raise `EnvironmentProblem` where `module` is missing, or distributions lie over each other.

    `module` is "onnxruntime" or "onnxruntime_genai". Every build of either (-gpu, -openvino, -cuda, ...)
    brings the same package: the files of the one installed last are in force, until it is uninstalled and
    takes the other's away.
    """
    wanted = _WANTED[module]
    found = _providers(module)
    if not found:
        raise EnvironmentProblem(f"{wanted} is not installed", hint=f"pip install {wanted}")
    if len(found) > 1:
        special = next((name for name in found if name != wanted), wanted)
        raise EnvironmentProblem(
            f"{len(found)} distributions of {wanted} are installed over each other: {', '.join(found)}; "
            "which files are in force is chance",
            hint=f"Keep one: pip uninstall -y {' '.join(found)} && pip install {wanted} (or {special})",
        )


@functools.cache
def _providers(module: str) -> list[str]:
    """The distributions that bring a top-level package: `packages_distributions` would parse every list."""
    return sorted({found.metadata["Name"] for found in distributions() if _brings(found, module)})


def _brings(found: Distribution, module: str) -> bool:
    declared = (found.read_text("top_level.txt") or "").split()
    return module in declared or f"\n{module}/" in "\n" + (found.read_text("RECORD") or "")
