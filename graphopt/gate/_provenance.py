"""What a result was found with: enough to make it again, or to say why another one is not the same."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from graphopt.evaluate import SEED, census
from graphopt.interface import TensorSpec
from graphopt.io import digests_below
from graphopt.package import RunnablePackage, versions
from graphopt.report import Provenance

__all__ = ["interface_texts", "provenance"]


def provenance(
    package: RunnablePackage, baseline: str, baseline_path: Path, reference: str, threads: int | None
) -> Provenance:
    """What is known before anything is measured. The commit is CI's ($GITHUB_SHA, $CI_COMMIT_SHA), else that
    of the folder graphopt runs in."""
    target = package.target()
    machine = target.fingerprint()
    known = versions(target.libraries)
    return Provenance(
        graphopt=known["graphopt"],
        package=str(package.path),
        package_digest=folder_digest(package.path),
        baseline=baseline,
        baseline_digest=folder_digest(baseline_path),
        reference=reference,
        task=package.manifest.task,
        target=target.name,
        interface=interface_texts(package),
        census=dict(census(package)),
        versions=known,
        cpu=machine.get("processor", platform.machine()),
        threads=threads or int(machine.get("threads", os.cpu_count() or 1)),
        system=platform.platform(),
        seeds={"evaluate": SEED, "resampling": 0},
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        command=["graphopt", *sys.argv[1:]] if Path(sys.argv[0]).stem == "graphopt" else [],
    )


def folder_digest(path: Path) -> str:
    """`sha256:…` of all files of a folder, or of a file, together; empty for what is not there."""
    if not path.exists():
        return ""
    digests = digests_below(path) if path.is_dir() else digests_below(path.parent, [path])
    total = hashlib.sha256("".join(f"{name}\0{digest}\0" for name, digest in digests.items()).encode())
    return f"sha256:{total.hexdigest()}"


def interface_texts(package: RunnablePackage) -> dict[str, str]:
    """Every input and output of its graphs as "input NAME": "int64[batch, 3]", those of several after their
    role."""
    return {
        f"{'' if role == 'model' else f'{role}: '}{side} {spec.name}": f"{spec.dtype}[{_sizes(spec)}]"
        for role, graph in package.manifest.graphs.items()
        for side, specs in (("input", graph.inputs), ("output", graph.outputs))
        for spec in specs
    }


def _sizes(spec: TensorSpec) -> str:
    return ", ".join("?" if dim is None else str(dim) for dim in spec.dims)


def _commit() -> str:
    said = os.environ.get("GITHUB_SHA") or os.environ.get("CI_COMMIT_SHA")
    if said:
        return said
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
