"""Whether a package may ship: gates, what was measured for them, and a verdict that can be no."""

from graphopt.gate._bounds import Gate, parse_gate
from graphopt.gate._config import CONFIG, Gates, GateSettings, read_gates
from graphopt.gate._schema import config_schema

__all__ = ["CONFIG", "Gate", "GateSettings", "Gates", "config_schema", "parse_gate", "read_gates"]
