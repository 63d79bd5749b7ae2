"""What exporting needs installed, and keeping it quiet."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

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
        with quiet(), _code_unread(), _models_read_once():
            for name in ("torch", "torch.export", "transformers.models", "transformers.exporters"):
                importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentProblem(f"transformers' exporter cannot be imported: {error}", hint=_HINT) from error


@contextlib.contextmanager
def _code_unread() -> Iterator[None]:
    """Inside, a frame is told by file and line, without its code, and its module is found by name.

    PyTorch notes that way where each operator of its own is defined, and Python would resolve the path of
    every module there is, again and again as they become more.
    """
    of_frame, of_module = inspect.getframeinfo, inspect.getmodule

    def by_name(object: Any, _filename: str | None = None) -> ModuleType | None:
        if inspect.isframe(object):
            return sys.modules.get(object.f_globals["__name__"])
        return of_module(object, _filename)

    inspect.getframeinfo = lambda frame, context=1: of_frame(frame, 0)
    inspect.getmodule = by_name
    try:
        yield
    finally:
        inspect.getframeinfo, inspect.getmodule = of_frame, of_module


@contextlib.contextmanager
def _models_read_once() -> Iterator[None]:
    """Inside, transformers' folder of models is one under either of its names: it reads thousands of files
    for a list of them, and keeps that by name.
    """
    from transformers.utils import import_utils

    original = import_utils.create_import_structure_from_path

    def of_folder(path: str | os.PathLike[str]) -> Any:
        return original(Path(path).parent if Path(path).is_file() else Path(path))

    import_utils.create_import_structure_from_path = of_folder
    try:
        yield
    finally:
        import_utils.create_import_structure_from_path = original


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
