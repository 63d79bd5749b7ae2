"""What a package is worth: accuracy against a reference, and speed beside another package."""

from graphopt.evaluate._acceptance import Compared, compare_whole, compare_with_source, rows_stand_alone
from graphopt.evaluate._accuracy import (
    EncoderComparison,
    LanguageComparison,
    compare_encoders,
    compare_language_models,
)
from graphopt.evaluate._bindings import SEED, Bindings
from graphopt.evaluate._closing import METRICS, ClosingCase, ClosingCheck, ClosingComparison, closing_check
from graphopt.evaluate._logits import reference_logits, session_logits, whole_sequence
from graphopt.evaluate._package_speed import measure_speed
from graphopt.evaluate._speed import BenchReport, Measurement, Price, Speed, bench
from graphopt.evaluate._validation import Validation, validate

__all__ = [
    "METRICS",
    "SEED",
    "BenchReport",
    "Bindings",
    "ClosingCase",
    "ClosingCheck",
    "ClosingComparison",
    "Compared",
    "EncoderComparison",
    "LanguageComparison",
    "Measurement",
    "Price",
    "Speed",
    "Validation",
    "bench",
    "closing_check",
    "compare_encoders",
    "compare_language_models",
    "compare_whole",
    "compare_with_source",
    "measure_speed",
    "reference_logits",
    "rows_stand_alone",
    "session_logits",
    "validate",
    "whole_sequence",
]
