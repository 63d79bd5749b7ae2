"""Whether a target can run here, and what would mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.errors import EnvironmentProblem

__all__ = ["Diagnosis", "of_provider"]


@dataclass(frozen=True)
class Diagnosis:
    """What stands between a target and running here.

    `said` is one line. `command` mends it where a command can.
    """

    state: Literal["ready", "no wheel", "wrong wheels", "no provider", "no device", "other system"]
    said: str
    command: str | None = None

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    def require(self, target: str) -> None:
        """Raise `EnvironmentProblem` with the command, unless all is well."""
        if not self.ready:
            raise EnvironmentProblem(f"target {target!r} cannot run here: {self.said}", hint=self.command)


def of_provider(provider: str) -> Diagnosis:
    """Whether the one installed onnxruntime has `provider`."""
    from graphopt.runtime import check_installation

    try:
        check_installation()
    except EnvironmentProblem as error:
        return Diagnosis("wrong wheels", error.message, error.hint)
    import onnxruntime as ort

    if provider not in ort.get_available_providers():
        return Diagnosis("no provider", f"the installed onnxruntime {ort.__version__} has no {provider}")
    return Diagnosis("ready", f"onnxruntime {ort.__version__} has {provider}")
