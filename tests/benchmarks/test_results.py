"""Files of benchmarks/results: what a partial rerun replaces; a file reads as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks._results import RESULTS, Results, Table, command, load, merged, record
from graphopt.metrics import Estimate


def table(*rows: str, value: float = 1.0, **fields: Any) -> Table:
    about = {"name": "speed", "cell": {"batch": 1}, "key": "peer", "base": ("ours", "ours again")}
    about |= {"date": "2026-11-27", "machine": "m", "versions": {}, "command": "c"}
    found: list[dict[str, Any]] = [{"peer": row, "tok/s": value} for row in rows]
    return Table.model_validate(about | {"rows": found} | fields)


def results(*tables: Table) -> Results:
    return Results(name="decode", tables=list(tables))


def names(found: Results) -> list[list[tuple[Any, Any]]]:
    return [[(row["peer"], row["tok/s"]) for row in one.rows] for one in found.tables]


def test_a_rerun_of_all_rows_replaces_the_table() -> None:
    old, new = results(table("ours", "a", "b")), results(table("ours", "a", "b", value=2.0))

    assert merged(old, new) == new


def test_a_partial_rerun_replaces_only_its_rows() -> None:
    old = results(table("ours", "a", "b", "ours again"))
    new = results(table("ours", "a", "ours again", value=2.0))

    assert names(merged(old, new)) == [
        [("ours", 1.0), ("b", 1.0), ("ours again", 1.0)],
        [("ours", 2.0), ("a", 2.0), ("ours again", 2.0)],
    ]


def test_two_tables_of_a_cell_are_both_replaced_by_one_that_has_all_their_rows() -> None:
    old = results(table("ours", "a"), table("ours", "b"))

    assert names(merged(old, results(table("ours", "a", "b", value=2.0)))) == [
        [("ours", 2.0), ("a", 2.0), ("b", 2.0)]
    ]


def test_the_base_alone_measured_again_changes_nothing_that_others_are_compared_with() -> None:
    old = results(table("ours", "a"))

    assert names(merged(old, results(table("ours", value=2.0)))) == [
        [("ours", 1.0), ("a", 1.0)],
        [("ours", 2.0)],
    ]


@pytest.mark.parametrize("other", [{"name": "damage"}, {"cell": {"batch": 4}}, {"cell": {}}])
def test_other_tables_and_cells_stay(other: dict[str, Any]) -> None:
    old = results(table("ours", "a"))

    assert len(merged(old, results(table("ours", "a", **other))).tables) == 2


def test_a_file_is_merged_into_and_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "decode.json"
    exact = {"peer": "a", "tok/s": Estimate(1.1, 1.0, 1.2), "n": 3, "failed": "no", "none": None, "is": True}
    record(path, [table("ours", "b")], notes=["One."])
    whole = record(path, [table(rows=[exact])], notes=["One.", "Two."])

    assert load(path) == whole
    assert whole.notes == ["One.", "Two."]
    assert [row for one in load(path).tables for row in one.rows if row["peer"] == "a"] == [exact]
    assert '{"peer": "b", "tok/s": 1.0}' in path.read_text(), "a row is a line"


def test_what_is_not_of_the_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "decode.json"
    record(path, [table("ours")])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": 1}))

    with pytest.raises(ValidationError, match="extra"):
        load(path)


def test_a_table_is_found_by_its_cell_and_by_who_is_in_it() -> None:
    found = results(table("ours", "a"), table("ours", "b", cell={"batch": 4, "prompt": 32}))

    assert found.find("speed", batch=4) is found.tables[1]
    assert found.find("speed", "b") is found.tables[1]
    with pytest.raises(KeyError, match=r"no table .speed. of \{.batch.: 1\} with .b."):
        found.find("speed", "b", batch=1)


@pytest.mark.parametrize("where", [["--json", "/tmp/x/loop.json"], ["--json=x.json"], []])
def test_the_command_says_what_was_measured_and_not_where_it_went(
    where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/benchmarks/loop.py", "build/p", *where, "--only", "a b"])

    assert command() == "python benchmarks/loop.py build/p --only 'a b'"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_committed_results_are_in_the_form_that_benchmarks_write(path: Path) -> None:
    assert load(path).text() == path.read_text(encoding="utf-8")
