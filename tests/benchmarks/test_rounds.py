"""The harness of benchmarks/: rounds that go on after a kill, pairs, tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks._rounds import Peer, Round, Rounds, deadline, interval, ratio, stamp, table

CELL = {"shape": "small", "prompt": 8}


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    path = tmp_path / "calls"
    path.touch()
    return path


def peer(name: str, calls: Path, speed: float = 1.0, made: str = "") -> Peer:
    """One whose process notes that it ran and prints its speed."""
    script = f"open({str(calls)!r}, 'a').write({name!r}); print('noise'); print('{{\"decode\": {speed}}}')"
    return Peer(name, (sys.executable, "-c", script), made)


def test_rounds_take_turns_and_are_kept(tmp_path: Path, calls: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.jsonl")
    assert rounds.measure(CELL, [peer("a", calls), peer("b", calls)], 3, deadline(None))
    assert calls.read_text() == "abbaab"
    found = rounds.of(CELL, [peer("a", calls)])
    assert len(found) == 3
    for one in found:
        assert {name: result["decode"] for name, result in one.results.items()} == {"a": 1.0, "b": 1.0}
        assert all(0 <= result["others"] <= 1 for result in one.results.values())


def test_a_killed_run_goes_on_with_whole_rounds(tmp_path: Path, calls: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    rounds, both = Rounds(path), [peer("a", calls), peer("b", calls)]
    rounds.measure(CELL, both, 2, deadline(None))
    whole = path.read_text()
    path.write_text(whole[:-20])  # cut within the second line
    assert len(rounds.of(CELL, both)) == 1
    rounds.measure(CELL, both, 2, deadline(None))
    assert len(rounds.of(CELL, both)) == 2
    rounds.measure(CELL, both, 2, deadline(None))
    assert len(calls.read_text()) == 6


def test_what_was_made_anew_or_is_another_cell_is_measured_anew(tmp_path: Path, calls: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.jsonl")
    rounds.measure(CELL, [peer("a", calls, made="old")], 1, deadline(None))
    assert not rounds.of(CELL, [peer("a", calls, made="new")])
    assert not rounds.of(CELL | {"prompt": 9}, [peer("a", calls, made="old")])
    rounds.measure(CELL, [peer("a", calls, made="new")], 1, deadline(None))
    assert calls.read_text() == "aa"


def test_no_round_begins_when_time_is_over(tmp_path: Path, calls: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.jsonl")
    assert not rounds.measure(CELL, [peer("a", calls)], 1, lambda: False)
    assert calls.read_text() == ""


def test_a_failed_process_is_kept_with_its_last_words_and_has_no_ratio(tmp_path: Path, calls: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.jsonl")
    bad = Peer("bad", (sys.executable, "-c", "raise SystemExit('first\\nout of cheese')"))
    rounds.measure(CELL, [peer("a", calls), bad], 1, deadline(None))
    (one,) = rounds
    assert one.results["bad"] == {"error": "out of cheese"}
    assert ratio([one], "a", "bad", "decode") is None


def test_ratios_are_of_pairs_within_a_round() -> None:
    def of(a: float, b: float) -> Round:
        return Round(CELL, {}, "2026-01-01", {"a": {"decode": a}, "b": {"decode": b}})

    found = ratio([of(2, 1), of(20, 10), of(200, 100)], "a", "b", "decode")
    assert found is not None
    assert (found.value, found.low, found.high) == (2, 2, 2)
    assert interval(found) == "2.00 [2.00, 2.00]"


def test_a_line_that_a_kill_cut_is_no_round(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    line = json.dumps({"cell": CELL, "made": {}, "when": "", "results": {"a": {"decode": 1}}})
    for cut in (line[:-1], line):
        path.write_text(f"{line}\n{cut}")
        assert len(list(Rounds(path))) == 1


def test_stamps_follow_the_text_of_sources_and_the_size_of_other_files(tmp_path: Path) -> None:
    source, data = tmp_path / "a.py", tmp_path / "data"
    source.write_text("x = 1")
    data.write_text("12")
    before = stamp(tmp_path)
    source.touch()
    assert stamp(tmp_path) == before
    data.write_text("123")
    changed = stamp(tmp_path)
    source.write_text("x = 2")
    assert len({before, changed, stamp(tmp_path)}) == 3


def test_tables_are_markdown() -> None:
    assert table(["", "speed"], [["a", "1"]]) == "|  | speed |\n|---|---|\n| a | 1 |"
