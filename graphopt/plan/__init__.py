"""How weights share a budget: a bound on damage, size or time becomes a form for each weight."""

from graphopt.plan._allocate import Objective, allocate, pareto, predicted
from graphopt.plan._bounds import PLANNED, Bound, parse_bounds
from graphopt.plan._corrected import corrected, keeps
from graphopt.plan._damages import Together
from graphopt.plan._plan import PLAN, Attempt, ParetoPoint, Plan, PlannedUnit
from graphopt.plan._solve import solve, total
from graphopt.plan._table import Choice, Table, Unit

__all__ = [
    "PLAN",
    "PLANNED",
    "Attempt",
    "Bound",
    "Choice",
    "Objective",
    "ParetoPoint",
    "Plan",
    "PlannedUnit",
    "Table",
    "Together",
    "Unit",
    "allocate",
    "corrected",
    "keeps",
    "pareto",
    "parse_bounds",
    "predicted",
    "solve",
    "total",
]
