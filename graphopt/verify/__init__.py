"""Checks: structure after every pass, and the package against its source."""

from graphopt.verify._closing import (
    METRICS,
    ClosingCase,
    ClosingCheck,
    ClosingComparison,
    closing_check,
)
from graphopt.verify._edits import EditVerdict, EditVerifier
from graphopt.verify._measures import cosines
from graphopt.verify._structure import check_structure
from graphopt.verify._tolerance import Tolerance, Verdict, compare, tolerance_of
from graphopt.verify._worker import KernelWorker

__all__ = [
    "METRICS",
    "ClosingCase",
    "ClosingCheck",
    "ClosingComparison",
    "EditVerdict",
    "EditVerifier",
    "KernelWorker",
    "Tolerance",
    "Verdict",
    "check_structure",
    "closing_check",
    "compare",
    "cosines",
    "tolerance_of",
]
