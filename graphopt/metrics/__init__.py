"""How far apart results are, and how sure that is."""

from graphopt.metrics._distance import changed_tokens, cosines, divergences, scaled_difference
from graphopt.metrics._estimate import Estimate, bootstrap

__all__ = ["Estimate", "bootstrap", "changed_tokens", "cosines", "divergences", "scaled_difference"]
