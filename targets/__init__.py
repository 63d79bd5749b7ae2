"""The built-in targets."""

from __future__ import annotations

from graphopt.plugins import Pack

from .cpu import CpuTarget

PACK = Pack(targets=(CpuTarget,))
