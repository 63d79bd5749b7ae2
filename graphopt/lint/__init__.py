"""Rules that find silent cliffs and known miscompiles in graphs, and what they look at."""

from graphopt.lint._edits import edited, edits_of
from graphopt.lint._rule import CODE, Finding, Rule, Severity, rule
from graphopt.lint._subject import LintedGraph, Subject, Trial, TrialEdit, TrialMiss

__all__ = [
    "CODE",
    "Finding",
    "LintedGraph",
    "Rule",
    "Severity",
    "Subject",
    "Trial",
    "TrialEdit",
    "TrialMiss",
    "edited",
    "edits_of",
    "rule",
]
