"""Checks: structure after every pass, and the package against its source."""

from graphopt.verify._cone import Derived
from graphopt.verify._edits import EditVerifier
from graphopt.verify._noise import Noise, is_rounded
from graphopt.verify._opset import changed_meaning
from graphopt.verify._reproducer import clear_reproducers, discard_reproducer
from graphopt.verify._tolerance import Agreement, Tolerance, compare, tolerance_of
from graphopt.verify._worker import KernelWorker

__all__ = [
    "Agreement",
    "Derived",
    "EditVerifier",
    "KernelWorker",
    "Noise",
    "Tolerance",
    "changed_meaning",
    "clear_reproducers",
    "compare",
    "discard_reproducer",
    "is_rounded",
    "tolerance_of",
]
