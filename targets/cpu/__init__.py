"""The CPU target: onnxruntime's CPU execution provider, and kernels of our own where they serve."""

from ._target import CpuTarget

__all__ = ["CpuTarget"]
