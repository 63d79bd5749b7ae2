"""Many trials, each done once, on the machines that there are."""

from graphopt.sweep._damages import damages
from graphopt.sweep._engine import Engine, run
from graphopt.sweep._spec import Range, Spec
from graphopt.sweep._sweep import Row, Sweep, sweep
from graphopt.sweep._task import Outcome, Task
from graphopt.sweep._trial import MEASURED, Measure, Trial
from graphopt.sweep._under_way import Measured, measured

__all__ = [
    "MEASURED",
    "Engine",
    "Measure",
    "Measured",
    "Outcome",
    "Range",
    "Row",
    "Spec",
    "Sweep",
    "Task",
    "Trial",
    "damages",
    "measured",
    "run",
    "sweep",
]
