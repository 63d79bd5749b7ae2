"""Checks: structure after every pass, and the package against its source."""

from graphopt.verify._closing import ClosingCase, ClosingCheck, ClosingComparison, closing_check
from graphopt.verify._measures import cosines
from graphopt.verify._structure import check_structure

__all__ = ["ClosingCase", "ClosingCheck", "ClosingComparison", "check_structure", "closing_check", "cosines"]
