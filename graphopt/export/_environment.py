"""What exporting needs installed, and keeping it quiet."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from graphopt.errors import EnvironmentProblem

__all__ = ["quiet", "require_exporter"]

OLDEST = {"torch": (2, 13), "transformers": (5, 23)}
"""The oldest that exporting is tested with."""
NEWEST = {"transformers": 5}
"""The exporter is experimental: another major version may have another one."""
_HINT = "pip install 'graphopt[export]'"


def require_exporter() -> None:
    """Raise `EnvironmentProblem` unless torch and a transformers with a known exporter are there."""
    for name, oldest in OLDEST.items():
        installed = _version(name)
        wanted = ".".join(map(str, oldest))
        if installed is None:
            raise EnvironmentProblem(f"exporting a model needs {name}, which is not installed", hint=_HINT)
        if installed < oldest:
            raise EnvironmentProblem(
                f"exporting a model needs {name} {wanted} or later; {version(name)} is installed", hint=_HINT
            )
        if name in NEWEST and installed[0] > NEWEST[name]:
            raise EnvironmentProblem(
                f"{name} {version(name)} is newer than what this graphopt exports with ({NEWEST[name]}.x)",
                hint=_HINT,
            )
    try:
        with quiet():
            importlib.import_module("transformers.exporters")
    except ImportError as error:
        raise EnvironmentProblem(f"transformers' exporter cannot be imported: {error}", hint=_HINT) from error


def _version(name: str) -> tuple[int, ...] | None:
    try:
        parts = version(name).split("+")[0].split(".")
    except PackageNotFoundError:
        return None
    return tuple(int(part) for part in parts[:2])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log lines below error, progress bars and prints of the libraries called inside."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _no_progress_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    try:
        from transformers.utils import logging as library
    except ImportError:
        yield
        return
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()
