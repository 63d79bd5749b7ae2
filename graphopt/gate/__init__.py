"""Whether a package may ship: gates, what was measured for them, and a verdict that can be no."""

from graphopt.gate._bounds import Gate, parse_gate
from graphopt.gate._config import CONFIG, Gates, GateSettings, read_gates
from graphopt.gate._decision import Answer, Decision, Question, decide
from graphopt.gate._looks import MINIMUM_BLOCKS, MOST_BLOCKS
from graphopt.gate._schema import config_schema

__all__ = [
    "CONFIG",
    "MINIMUM_BLOCKS",
    "MOST_BLOCKS",
    "Answer",
    "Decision",
    "Gate",
    "GateSettings",
    "Gates",
    "Question",
    "config_schema",
    "decide",
    "parse_gate",
    "read_gates",
]
