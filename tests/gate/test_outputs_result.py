"""Result files: read as they were written, described by docs/schemas/gate-result.schema.json, else refused.

`python -m tests.gate.test_outputs_result` writes the schema.
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from graphopt import BadInput
from graphopt.gate import read_result, result_schema
from tests._cache import ROOT
from tests.gate._reports import gate_report, nasty_report

SCHEMA = ROOT / "docs/schemas/gate-result.schema.json"


def written(folder: Path, **fields: object) -> Path:
    path = folder / "result.json"
    gate_report("pass", "fail", **fields).write(path)
    return path


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = read_result(written(tmp_path))

    assert report.model_dump_json() == gate_report("pass", "fail").model_dump_json()


def test_values_that_are_not_finite_come_back(tmp_path: Path) -> None:
    report = gate_report("fail")
    report.outcomes[0].value, report.outcomes[0].high = float("nan"), float("inf")
    report.write(tmp_path / "r.json")

    found = read_result(tmp_path / "r.json").outcomes[0]
    assert found.value != found.value
    assert found.high == float("inf")


def test_the_published_schema_is_current() -> None:
    assert json.loads(SCHEMA.read_text()) == result_schema(), f"run python -m {__spec__.name}"


def test_results_keep_to_the_schema() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for report in (gate_report("pass", "inconclusive"), nasty_report()):
        jsonschema.validate(report.model_dump(mode="json"), schema)


@pytest.mark.parametrize(
    "change", [{"verdict": "maybe"}, {"version": 2}, {"outcomes": [{}]}, {"confidence": "high"}]
)
def test_the_schema_refuses_what_is_wrong(change: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(gate_report("pass").model_dump(mode="json") | change, result_schema())


def test_a_result_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))

    with pytest.raises(BadInput, match="is of version 2, and this graphopt reads results up to version 1"):
        read_result(path)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8, 0.99])
def test_a_result_that_was_cut_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path)
    text = path.read_text()
    path.write_text(text[: int(len(text) * share)])

    with pytest.raises(BadInput, match="ends in the middle"):
        read_result(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not text"),
        (b"[1, 2]", "but something else"),
        (b'{"version": 1, "passes": []}', "but the report of a package"),
        (b"# a document\n\nof many lines\n", "is not JSON"),
        (b'{"outcomes": []}', "verdict: Field required"),
        (b'{"outcomes": [], "version": "one"}', "version"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_something_else_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "r.json").write_bytes(content)

    with pytest.raises(BadInput, match=message):
        read_result(tmp_path / "r.json")


def test_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            read_result(path)


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(json.dumps(result_schema(), indent=2) + "\n")
