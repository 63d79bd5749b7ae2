"""Packages: what `optimize` writes, and what can be done with one."""

from graphopt.package._answers import Answers, Prompt
from graphopt.package._lock import LOCK, Lock, LockedPack, LockedStep, packs, versions
from graphopt.package._manifest import (
    MANIFEST,
    CalibratedOn,
    GraphFile,
    Manifest,
    MeasuredSetting,
    TargetInfo,
    TunedSession,
    read_manifest,
)
from graphopt.package._media import PICTURES, SOUNDS, Finding, feeds_of_file, findings, takes_files
from graphopt.package._package import RunnablePackage
from graphopt.package._prepack import Prepacked, prepack
from graphopt.package._staging import Staging, check_destination, staged, staged_aside
from graphopt.package._unchanged import Unchanged
from graphopt.package._variants import add_variant

__all__ = [
    "LOCK",
    "MANIFEST",
    "PICTURES",
    "SOUNDS",
    "Answers",
    "CalibratedOn",
    "Finding",
    "GraphFile",
    "Lock",
    "LockedPack",
    "LockedStep",
    "Manifest",
    "MeasuredSetting",
    "Prepacked",
    "Prompt",
    "RunnablePackage",
    "Staging",
    "TargetInfo",
    "TunedSession",
    "Unchanged",
    "add_variant",
    "check_destination",
    "feeds_of_file",
    "findings",
    "packs",
    "prepack",
    "read_manifest",
    "staged",
    "staged_aside",
    "takes_files",
    "versions",
]
