"""The plugin author's kit: golden files for passes, and the promises that every pass is held to."""

from graphopt.testing._blocks import in_blocks
from graphopt.testing._conformance import Conformance, Problem, check_distribution, check_pass
from graphopt.testing._example import Example
from graphopt.testing._execution import outputs, seeded_feeds, session
from graphopt.testing._promises import PROMISES
from graphopt.testing._targets import check_target
from graphopt.testing.golden import Golden, goldens

__all__ = [
    "PROMISES",
    "Conformance",
    "Example",
    "Golden",
    "Problem",
    "check_distribution",
    "check_pass",
    "check_target",
    "goldens",
    "in_blocks",
    "outputs",
    "seeded_feeds",
    "session",
]
