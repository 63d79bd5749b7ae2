"""OpenVINO's own runtime, in a process of its own."""

from ._target import OpenVinoTarget

__all__ = ["OpenVinoTarget"]
