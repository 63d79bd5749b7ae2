"""Rules of `graphopt lint` about graphs: most ask a pass what it would change."""

from __future__ import annotations

from .language import LANGUAGE
from .shapes import SHAPES
from .structure import STRUCTURE
from .weights import WEIGHTS

__all__ = ["RULES"]

RULES = (*STRUCTURE, *LANGUAGE, *SHAPES, *WEIGHTS)
