"""What a graph computes on real inputs, a piece at a time: the ground that compression stands on."""

from graphopt.calibrate._branches import Branches
from graphopt.calibrate._data import CalibrationData, from_arrays, from_windows
from graphopt.calibrate._gram import Gram
from graphopt.calibrate._statistics import AbsoluteMean, Histogram, Ranges, RowSample
from graphopt.calibrate._stream import Stream

__all__ = [
    "AbsoluteMean",
    "Branches",
    "CalibrationData",
    "Gram",
    "Histogram",
    "Ranges",
    "RowSample",
    "Stream",
    "from_arrays",
    "from_windows",
]
