"""What a package is worth: accuracy against a reference, and speed beside another package."""

from graphopt.evaluate._accuracy import (
    EncoderComparison,
    LanguageComparison,
    compare_encoders,
    compare_language_models,
)
from graphopt.evaluate._estimate import Estimate, bootstrap
from graphopt.evaluate._logits import reference_logits, session_logits, whole_sequence
from graphopt.evaluate._speed import BenchReport, Measurement, Price, Speed, bench

__all__ = [
    "BenchReport",
    "EncoderComparison",
    "Estimate",
    "LanguageComparison",
    "Measurement",
    "Price",
    "Speed",
    "bench",
    "bootstrap",
    "compare_encoders",
    "compare_language_models",
    "reference_logits",
    "session_logits",
    "whole_sequence",
]
