"""What a package is worth: accuracy against a reference, and speed beside another package."""

from graphopt.evaluate._accuracy import (
    EncoderAccuracy,
    LanguageAccuracy,
    compare_encoders,
    compare_language_models,
)
from graphopt.evaluate._agreement import AgreedPair, TargetAgreement, compare_targets
from graphopt.evaluate._assignment import AssignedNode, Untold, fallback_nodes
from graphopt.evaluate._beside import Beside, run_beside
from graphopt.evaluate._bindings import SEED, Bindings, Undecided
from graphopt.evaluate._census import census, census_differences
from graphopt.evaluate._closing import (
    BUDGET,
    LOSSLESS,
    CheckedMetric,
    ClosingCase,
    ClosingCheck,
    closing_check,
)
from graphopt.evaluate._corpus import Corpus, corpus_of, read_corpus, sequences
from graphopt.evaluate._costs import Cost, step_cost, step_flops, stored_by_node
from graphopt.evaluate._coverage import Coverage, CoverageRow, Fallback, coverage, coverage_of
from graphopt.evaluate._encoder_run import ENCODER_METRICS
from graphopt.evaluate._facts import FACTS, interface_changes, measure_facts
from graphopt.evaluate._foretold import Foretold
from graphopt.evaluate._gate_accuracy import AccuracyRun, measure_accuracy
from graphopt.evaluate._graph_check import GraphCheck, check_graph, check_whole, rows_stand_alone
from graphopt.evaluate._heads import HEAD_METRICS, head_metrics, measure_heads
from graphopt.evaluate._interface_changes import interface_differences
from graphopt.evaluate._islands import FloatIsland, counted, float_islands, said_of
from graphopt.evaluate._language import TEXT_GENERATION
from graphopt.evaluate._language_run import LANGUAGE_METRICS
from graphopt.evaluate._lm_eval import require_lm_eval
from graphopt.evaluate._logits import reference_logits, session_logits, whole_sequence
from graphopt.evaluate._measurable import SPEED_METRICS, Measurable
from graphopt.evaluate._measurement import Measurement
from graphopt.evaluate._overlap import CALIBRATION
from graphopt.evaluate._package_speed import measure_speed
from graphopt.evaluate._precision import Precision, probed_precision
from graphopt.evaluate._profile import profile
from graphopt.evaluate._samples import AccuracySamples, Generated
from graphopt.evaluate._session_tuning import tune_session
from graphopt.evaluate._speed import BenchReport, Price, Speed, bench
from graphopt.evaluate._tasks import TASK_METRICS, measure_tasks
from graphopt.evaluate._turns import SpeedTurns
from graphopt.evaluate._validation import Validation, validate

__all__ = [
    "BUDGET",
    "CALIBRATION",
    "ENCODER_METRICS",
    "FACTS",
    "HEAD_METRICS",
    "LANGUAGE_METRICS",
    "LOSSLESS",
    "SEED",
    "SPEED_METRICS",
    "TASK_METRICS",
    "TEXT_GENERATION",
    "AccuracyRun",
    "AccuracySamples",
    "AgreedPair",
    "AssignedNode",
    "BenchReport",
    "Beside",
    "Bindings",
    "CheckedMetric",
    "ClosingCase",
    "ClosingCheck",
    "Corpus",
    "Cost",
    "Coverage",
    "CoverageRow",
    "EncoderAccuracy",
    "Fallback",
    "FloatIsland",
    "Foretold",
    "Generated",
    "GraphCheck",
    "LanguageAccuracy",
    "Measurable",
    "Measurement",
    "Precision",
    "Price",
    "Speed",
    "SpeedTurns",
    "TargetAgreement",
    "Undecided",
    "Untold",
    "Validation",
    "bench",
    "census",
    "census_differences",
    "check_graph",
    "check_whole",
    "closing_check",
    "compare_encoders",
    "compare_language_models",
    "compare_targets",
    "corpus_of",
    "counted",
    "coverage",
    "coverage_of",
    "fallback_nodes",
    "float_islands",
    "head_metrics",
    "interface_changes",
    "interface_differences",
    "measure_accuracy",
    "measure_facts",
    "measure_heads",
    "measure_speed",
    "measure_tasks",
    "probed_precision",
    "profile",
    "read_corpus",
    "reference_logits",
    "require_lm_eval",
    "rows_stand_alone",
    "run_beside",
    "said_of",
    "sequences",
    "session_logits",
    "step_cost",
    "step_flops",
    "stored_by_node",
    "tune_session",
    "validate",
    "whole_sequence",
]
