"""What is measured of packages: one table of names, one implementation each, and how sure a number is."""

from graphopt.metrics._average_precision import (
    DETECTIONS,
    average_precisions,
    box_overlap,
    detection_rows,
    mean_average_precision,
)
from graphopt.metrics._estimate import Estimate, bootstrap, median
from graphopt.metrics._evidence import Documents, Evidence, Exact, Sample, Statistic, Turns
from graphopt.metrics._infer import control, estimate, infer
from graphopt.metrics._inference import Inference, Known
from graphopt.metrics._measures import (
    cosine_similarity,
    kl_divergence,
    kl_of_log_probabilities,
    log_softmax,
    rms_difference,
    scaled_difference,
    sqnr,
    top1_mismatches,
)
from graphopt.metrics._multiple import benjamini_hochberg, holm, mcnemar
from graphopt.metrics._needed import Needed, units_needed
from graphopt.metrics._table import METRICS, Metric
from graphopt.metrics._units import SAID, UNITS

__all__ = [
    "DETECTIONS",
    "METRICS",
    "SAID",
    "UNITS",
    "Documents",
    "Estimate",
    "Evidence",
    "Exact",
    "Inference",
    "Known",
    "Metric",
    "Needed",
    "Sample",
    "Statistic",
    "Turns",
    "average_precisions",
    "benjamini_hochberg",
    "bootstrap",
    "box_overlap",
    "control",
    "cosine_similarity",
    "detection_rows",
    "estimate",
    "holm",
    "infer",
    "kl_divergence",
    "kl_of_log_probabilities",
    "log_softmax",
    "mcnemar",
    "mean_average_precision",
    "median",
    "rms_difference",
    "scaled_difference",
    "sqnr",
    "top1_mismatches",
    "units_needed",
]
