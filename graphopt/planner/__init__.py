"""Which recipe, bits, target and machine: candidates weighed by what is predicted, tried where asked."""

from graphopt.planner._auto import AUTO, Checked, PlannedPackage, made_by_plan
from graphopt.planner._candidate import Candidate, Outlook
from graphopt.planner._choose import Choice, ParetoPlan, choose, label
from graphopt.planner._compare import Area, Hosted, hosted
from graphopt.planner._damages import Typical, typical
from graphopt.planner._dollars import Hosting, dollars, exactly
from graphopt.planner._gains import Gain, gains
from graphopt.planner._json import choice_json, hosted_json, verified_json
from graphopt.planner._measured import with_damages
from graphopt.planner._recipes import options_of, recipe_of
from graphopt.planner._request import BOUNDED, MINIMIZED, Request
from graphopt.planner._sensitivities import Sensitivities
from graphopt.planner._source import Planned, planned_source
from graphopt.planner._verify import Verified, verify
from graphopt.planner._words import between, figure, said

__all__ = [
    "AUTO",
    "BOUNDED",
    "MINIMIZED",
    "Area",
    "Candidate",
    "Checked",
    "Choice",
    "Gain",
    "Hosted",
    "Hosting",
    "Outlook",
    "ParetoPlan",
    "Planned",
    "PlannedPackage",
    "Request",
    "Sensitivities",
    "Typical",
    "Verified",
    "between",
    "choice_json",
    "choose",
    "dollars",
    "exactly",
    "figure",
    "gains",
    "hosted",
    "hosted_json",
    "label",
    "made_by_plan",
    "options_of",
    "planned_source",
    "recipe_of",
    "said",
    "typical",
    "verified_json",
    "verify",
    "with_damages",
]
