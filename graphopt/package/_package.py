"""A package on disk, and what can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt import registry
from graphopt.errors import BadInput
from graphopt.package._manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from graphopt.report import Report
    from graphopt.targets import Target

__all__ = ["Package"]


class Package:
    """A folder that `optimize` wrote. `manifest` is its graphopt.json."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def load(cls, path: str | Path) -> Package:
        """The package at `path`. `BadInput` where there is none, or files of it are missing."""
        path = Path(path)
        manifest = read_manifest(path)
        for graph in manifest.graphs.values():
            if not (path / graph.file).is_file():
                raise BadInput(
                    f"package {path} is incomplete: {graph.file} is missing", hint="Make it again."
                )
        return cls(path, manifest)

    def __repr__(self) -> str:
        return f"Package({str(self.path)!r})"

    def target(self) -> Target:
        """The target this package was compiled for."""
        found: type[Target] = registry.resolve("target", self.manifest.target.name, registry.targets())
        return found()

    def report(self) -> Report:
        """What was written about the run that made this package."""
        from graphopt.report import REPORT, Report

        return Report.model_validate_json((self.path / REPORT).read_text(encoding="utf-8"))

    def session(self, role: str = "model") -> Any:
        """An `onnxruntime.InferenceSession` of the graph that plays `role`, set up for this machine."""
        return self.target().session(self.path / self.manifest.graphs[role].file)
