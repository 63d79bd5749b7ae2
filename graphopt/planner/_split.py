"""A model on as many machines as it needs."""

from __future__ import annotations

from graphopt.cost import GraphWork, Prediction, Situation, predict
from graphopt.machine import Profile

__all__ = ["smallest_split"]


def smallest_split(work: GraphWork, profile: Profile, situation: Situation) -> tuple[int, Prediction]:
    """How many of the machine the model is split over, as few as hold it, and what is expected there."""
    return 1, predict(work, profile, situation)
