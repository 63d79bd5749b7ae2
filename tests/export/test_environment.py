"""What is said when the exporter's libraries are missing or too old, and how quiet they are kept."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version

import pytest

from graphopt.errors import EnvironmentProblem
from graphopt.export import quiet, require_exporter


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    def answer(name: str) -> str:
        found = versions.get(name, version(name))
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr("graphopt.export._environment.version", answer)


def test_what_is_installed_here_will_do() -> None:
    require_exporter()


def test_what_is_done_for_a_fast_import_is_undone() -> None:
    require_exporter()
    from transformers.utils import import_utils

    assert inspect.getframeinfo(sys._getframe()).code_context is not None
    assert inspect.getmodule.__module__ == inspect.__name__
    assert import_utils.create_import_structure_from_path.__module__ == import_utils.__name__


@pytest.mark.parametrize("name", ["torch", "transformers"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, **{name: None})
    with pytest.raises(EnvironmentProblem, match=rf"needs {name}(.|\n)*graphopt\[export\]") as caught:
        require_exporter()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"torch": "2.4.1+cu121"}, r"torch 2\.13 or later; 2\.4\.1\+cu121"),
        ({"transformers": "4.57.3"}, r"transformers 5\.23 or later"),
        ({"transformers": "6.0.0"}, r"newer than"),
    ],
)
def test_an_untested_version(versions: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, **versions)
    with pytest.raises(EnvironmentProblem, match=message):
        require_exporter()


def test_quiet_silences_and_restores(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("some.library")
    with quiet():
        warnings.warn("not heard", stacklevel=1)
        logger.warning("not heard")
        print("not heard")
        assert logger.isEnabledFor(logging.ERROR)
        assert not logger.isEnabledFor(logging.WARNING)
    print("heard", file=sys.stdout)
    assert capsys.readouterr().out == "heard\n"
    assert logger.isEnabledFor(logging.WARNING)
