"""The plugin author's kit: golden files for passes, and graphs run as they stand."""

from graphopt.testing._execution import outputs, seeded_feeds, session
from graphopt.testing.golden import Golden, goldens

__all__ = ["Golden", "goldens", "outputs", "seeded_feeds", "session"]
