"""Checks: structure after every pass, and the package against its source."""

from graphopt.verify._structure import check_structure

__all__ = ["check_structure"]
