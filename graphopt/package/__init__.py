"""Packages: what `optimize` writes, and what can be done with one."""

from graphopt.package._answers import Answers, Prompt
from graphopt.package._manifest import (
    MANIFEST,
    GraphFile,
    Manifest,
    Port,
    PortList,
    TargetInfo,
    read_manifest,
)
from graphopt.package._package import Package
from graphopt.package._prepack import Prepacked, prepack
from graphopt.package._staging import Staging, check_destination, staged

__all__ = [
    "MANIFEST",
    "Answers",
    "GraphFile",
    "Manifest",
    "Package",
    "Port",
    "PortList",
    "Prepacked",
    "Prompt",
    "Staging",
    "TargetInfo",
    "check_destination",
    "prepack",
    "read_manifest",
    "staged",
]
