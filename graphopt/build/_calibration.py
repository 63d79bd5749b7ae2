"""What a graph of a run is calibrated on."""

from __future__ import annotations

from pathlib import Path

from graphopt.calibrate import CalibrationData, from_text
from graphopt.evaluate import CALIBRATION, read_text
from graphopt.export import Exported
from graphopt.plugins import registry
from graphopt.runtime import Tokenizer

__all__ = ["calibration_of"]

_TOKENS = 16 * 512
"""Of text that are read: what GPTQ and AWQ are content with, and a minute's work for a billion weights."""


def calibration_of(exported: Exported) -> CalibrationData | None:
    """The embedded calibration text, as calls of a graph that reads text; None for any other graph."""
    domain = exported.domain()
    folder = exported.source_dir
    if domain is None or folder is None or not (folder / "tokenizer.json").is_file():
        return None
    tokenizer = Tokenizer(folder)
    path = _embedded()
    ids = tokenizer.plain(read_text(path).content)
    return from_text(path.name, ids, domain, opening=tokenizer.opening(), tokens=_TOKENS)


def _embedded() -> Path:
    return next(
        folder / CALIBRATION
        for folder in registry.embedded_models().values()
        if (folder / CALIBRATION).is_file()
    )
