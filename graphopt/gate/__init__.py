"""Whether a package may ship: gates, what was measured for them, and a verdict that can be no."""

from graphopt.gate._annotations import code_quality, github_annotations
from graphopt.gate._badge import badge
from graphopt.gate._bounds import Gate, parse_gate, seconds
from graphopt.gate._changes import MINIMUM_RUNS, HistoryChange, changes
from graphopt.gate._config import CONFIG, Gates, GateSettings, read_gates
from graphopt.gate._decision import Answer, Decision, Question, decide
from graphopt.gate._gate import GateOptions, gate
from graphopt.gate._history import HistoryPoint, HistorySeries, history, read_history, record
from graphopt.gate._junit import junit
from graphopt.gate._looks import MINIMUM_BLOCKS, MOST_BLOCKS, SPEED_BOUND
from graphopt.gate._markdown import comment, comment_marker, step_summary
from graphopt.gate._raw import samples_jsonl
from graphopt.gate._result import read_result, result_schema
from graphopt.gate._sarif import sarif
from graphopt.gate._schema import config_schema
from graphopt.gate._words import amount

__all__ = [
    "CONFIG",
    "MINIMUM_BLOCKS",
    "MINIMUM_RUNS",
    "MOST_BLOCKS",
    "SPEED_BOUND",
    "Answer",
    "Decision",
    "Gate",
    "GateOptions",
    "GateSettings",
    "Gates",
    "HistoryChange",
    "HistoryPoint",
    "HistorySeries",
    "Question",
    "amount",
    "badge",
    "changes",
    "code_quality",
    "comment",
    "comment_marker",
    "config_schema",
    "decide",
    "gate",
    "github_annotations",
    "history",
    "junit",
    "parse_gate",
    "read_gates",
    "read_history",
    "read_result",
    "record",
    "result_schema",
    "samples_jsonl",
    "sarif",
    "seconds",
    "step_summary",
]
