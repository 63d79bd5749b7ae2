"""What was predicted and measured is kept, and says how far off predictions are."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.cost import Situation, history_of, outcomes, record
from graphopt.cost import _record as module
from graphopt.machine import Interval
from tests.cost._machine import profile

HERE = Situation(prompt=32, new=8, threads=2)


def said(value: float) -> Interval:
    return Interval(value=value, low=0.9 * value, high=1.1 * value)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    for measured in (1.0, 1.05, 2.0):
        found = outcomes({"tpot": said(1.0), "ttft": said(3.0)}, {"tpot": measured}, HERE, "abc")
        assert [one.metric for one in found] == ["tpot"]
        record(profile(), found, tmp_path)
    history = history_of(profile(), tmp_path)
    assert history.damaged == 0
    tpot = history.metrics["tpot"]
    assert (tpot.count, tpot.coverage) == (3, pytest.approx(2 / 3))
    assert tpot.median_error == pytest.approx(1 - 1 / 1.05)


def test_an_interval_that_does_not_hold_is_told() -> None:
    (near,), (far,) = (outcomes({"tpot": said(1.0)}, {"tpot": m}, HERE, "abc") for m in (1.09, 1.2))
    assert near.held
    assert not far.held
    assert far.error == pytest.approx(1 / 6)


def test_machines_are_kept_apart(tmp_path: Path) -> None:
    record(profile(), outcomes({"tpot": said(1.0)}, {"tpot": 1.0}, HERE, "abc"), tmp_path)
    assert not history_of(profile(identity={"processor": "another"}), tmp_path).metrics


def test_nothing_is_known_at_first(tmp_path: Path) -> None:
    assert history_of(profile(), tmp_path).metrics == {}


def test_a_record_that_cannot_be_written_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "predictions").write_text("a file")
    record(profile(), outcomes({"tpot": said(1.0)}, {"tpot": 1.0}, HERE, "abc"), tmp_path)
    assert "cannot be written" in capsys.readouterr().err


def test_damaged_lines_are_left_out_and_said(tmp_path: Path) -> None:
    found = outcomes({"tpot": said(1.0)}, {"tpot": 1.0}, HERE, "abc")
    record(profile(), found, tmp_path)
    (path,) = (tmp_path / "predictions").iterdir()
    whole = path.read_text()
    negative = whole.replace('"measured":1.0', '"measured":-1.0')
    assert negative != whole
    path.write_bytes(negative.encode() + b'{"version":2}\n\xff\xfe\n' + whole[:40].encode())
    record(profile(), found, tmp_path)
    history = history_of(profile(), tmp_path)
    assert history.damaged == 4
    assert history.metrics["tpot"].count == 1


def test_the_record_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 2000)
    found = outcomes({"tpot": said(1.0)}, {"tpot": 1.0}, HERE, "abc")
    for _ in range(50):
        record(profile(), found, tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "predictions").iterdir()) <= 4000
    assert 5 < history_of(profile(), tmp_path).metrics["tpot"].count < 50
