"""What changed between two graphs, by region."""

from graphopt.diff._diff import Diff, diff
from graphopt.diff._regions import Place, Region

__all__ = ["Diff", "Place", "Region", "diff"]
