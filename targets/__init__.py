"""The built-in targets."""

from __future__ import annotations

from graphopt.plugins import Pack

from .cpu import CpuTarget
from .portable import PortableTarget

PACK = Pack(targets=(CpuTarget, PortableTarget))
