"""Which recipe, bits, target and machine: candidates weighed by what is predicted, tried where asked."""

from graphopt.planner._candidate import Candidate, Outlook

__all__ = ["Candidate", "Outlook"]
