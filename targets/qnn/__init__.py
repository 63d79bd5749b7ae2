"""Qualcomm's NPU by QNN, in a process of its own; on x86 its simulator."""

from ._target import QnnTarget

__all__ = ["QnnTarget"]
