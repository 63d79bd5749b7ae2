"""Which edit of which pass a fault comes from, and the smallest graph that shows it."""

from graphopt.bisect._bisect import Bisection, Culprit, bisect

__all__ = ["Bisection", "Culprit", "bisect"]
