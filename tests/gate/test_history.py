"""History of gates: files that no two runs share, series of what may be compared, and how they are drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from graphopt import BadInput
from graphopt.cli._main import run
from graphopt.gate import history, read_history, read_result, record
from graphopt.report import GateReport
from tests.gate._reports import gate_report, nasty_report, outcome

Said = pytest.CaptureFixture[str]
START = datetime(2026, 11, 1, tzinfo=UTC)


def run_of(day: int, value: float, metric: str = "ttft", **made: object) -> GateReport:
    """A result of a day after `START`, with one value of one metric."""
    exact = metric == "package_bytes"
    report = gate_report(
        "pass", outcomes=[outcome(metric=metric, own=value, value=value, low=value, high=value, exact=exact)]
    )
    changed = {"date": (START + timedelta(days=day)).isoformat(), "commit": f"{day:040x}", **made}
    return report.model_copy(update={"provenance": report.provenance.model_copy(update=changed)})


def filled(folder: Path, *values: float, metric: str = "ttft") -> Path:
    for day, value in enumerate(values):
        record(run_of(day, value, metric), folder)
    return folder


def drawn(capsys: Said, folder: Path, *options: str) -> str:
    """What `graphopt history` prints."""
    assert run(["history", str(folder), *options]) == 0
    return capsys.readouterr().out


def test_a_record_is_a_result_without_samples(tmp_path: Path) -> None:
    path = record(gate_report("pass", "fail"), tmp_path / "new" / "folder")
    report = read_result(path)

    assert path.name.startswith("20261129T093603Z-0b050b100000-")
    assert (report.samples, report.generations) == ([], [])
    assert report.outcomes == gate_report("pass", "fail").outcomes
    assert path.stat().st_mode & 0o777 == 0o644


def test_names_sort_by_date_wherever_the_clock_stood(tmp_path: Path) -> None:
    later = record(run_of(0, 1.0, date="2026-11-29T01:00:00+00:00"), tmp_path)
    earlier = record(run_of(0, 1.0, date="2026-11-29T01:30:00+02:00"), tmp_path)

    assert sorted([later, earlier]) == [earlier, later]


def test_a_result_without_a_date_gets_one(tmp_path: Path) -> None:
    report = read_result(record(run_of(0, 1.0, date="", commit=""), tmp_path))

    assert datetime.fromisoformat(report.provenance.date).tzinfo is not None
    assert "-uncommitted-" in next(tmp_path.iterdir()).name


def test_what_a_commit_is_called_stays_in_the_folder(tmp_path: Path) -> None:
    path = record(run_of(0, 1.0, commit="../../x y"), tmp_path / "a")

    assert path.parent == tmp_path / "a"


def test_runs_at_once_write_a_file_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda n: record(run_of(0, float(n)), tmp_path), range(40)))

    assert len(set(paths)) == len(list(tmp_path.iterdir())) == 40
    assert sorted(r.outcomes[0].own for r in read_history(tmp_path)) == [float(n) for n in range(40)]


def test_a_run_that_is_killed_leaves_no_result(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from graphopt.gate import read_result, record\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "record(read_result(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    gate_report("pass").write(tmp_path / "r.json")
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "r.json", tmp_path / "kept"], check=False)

    assert killed.returncode == -9
    assert list((tmp_path / "kept").glob("[!.]*")) == []
    record(gate_report("pass"), tmp_path / "kept")
    assert len(read_history(tmp_path / "kept")) == 1


def test_nasty_names_can_be_kept(tmp_path: Path, capsys: Said) -> None:
    record(nasty_report(), tmp_path)

    (report,) = read_history(tmp_path)
    assert "\x1b" not in drawn(capsys, tmp_path)
    assert len(report.outcomes) == len(nasty_report().outcomes)


def test_speed_is_apart_by_machine_and_size_is_not() -> None:
    machines = [{"cpu": "A"}, {"cpu": "B"}, {"cpu": "B", "threads": 16}]
    for metric, places in {"ttft": 3, "peak_memory": 3, "package_bytes": 1, "kl_mean": 1}.items():
        found = history([run_of(day, 1.0, metric, **made) for day, made in enumerate(machines)])
        assert len(found) == places, metric
        assert sum(len(series.points) for series in found) == 3


def test_accuracy_is_apart_by_data() -> None:
    found = history([run_of(n, 0.1, "kl_mean", data_digest=f"sha256:{n}") for n in range(2)])

    assert [series.place for series in found] == ["data 0", "data 1"]


def test_two_bounds_of_a_metric_are_one_point() -> None:
    report = run_of(0, 1.0)
    report.outcomes *= 2

    assert [len(series.points) for series in history([report])] == [1]


@pytest.mark.parametrize("count", [1, 2, 5, 6, 200])
def test_any_number_of_runs_is_drawn(tmp_path: Path, count: int, capsys: Said) -> None:
    text = drawn(capsys, filled(tmp_path, *(1 + 0.01 * (n % 3) for n in range(count))))

    assert f"{count} run" in text
    assert "●" in text
    assert "▲" not in text
    assert ("a change shows from 6 runs on" in text) == (count < 6)
    assert max(map(len, text.splitlines())) <= 100


def test_a_step_is_marked_with_its_commit(tmp_path: Path, capsys: Said) -> None:
    values = [(1.0 if n < 10 else 1.1) * (1 + 0.005 * (n % 3)) for n in range(20)]
    text = drawn(capsys, filled(tmp_path, *values), "--json", str(tmp_path / "out.txt"))

    assert "▲ worse at 000000000000, 2026-11-11 00:00: 1 s → 1.11 s (+10.0 %)" in text, text
    (series,) = json.loads((tmp_path / "out.txt").read_text())["series"]
    assert [change["index"] for change in series["changes"]] == [10]
    assert series["place"] == "A processor, 2 threads"


def test_an_exact_value_that_differs_is_a_change(tmp_path: Path, capsys: Said) -> None:
    text = drawn(capsys, filled(tmp_path, 2e6, 2e6, 1.5e6, metric="package_bytes"))

    assert "▲ better" in text
    assert "2 MB → 1.5 MB (-25.0 %)" in text


def test_one_metric_alone(tmp_path: Path, capsys: Said) -> None:
    filled(tmp_path, 1.0)
    record(run_of(1, 5.0, "kl_mean"), tmp_path)

    assert "ttft" not in drawn(capsys, tmp_path, "--metric", "kl_mean")
    with pytest.raises(BadInput, match="no result has a metric 'kl_men'") as error:
        history(read_history(tmp_path), "kl_men")
    assert error.value.hint == "Did you mean 'kl_mean'?"


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(BadInput):
            read_history(folder)


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    filled(tmp_path, 1.0)
    (tmp_path / "half.json").write_text('{"outcomes": [')

    with pytest.raises(BadInput, match=r"half\.json ends in the middle"):
        read_history(tmp_path)
