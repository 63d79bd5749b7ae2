"""JUnit XML of a gate, held to the schema that Jenkins reads by."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import xmlschema

from graphopt.gate import junit
from tests.gate._reports import gate_report, nasty_report

SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "schemas/junit-10.xsd")


def test_a_gate_is_a_test_case() -> None:
    text = junit(gate_report("pass", "fail"))
    SCHEMA.validate(text)
    root = Xml.fromstring(text)

    assert [case.get("name") for case in root.iter("testcase")] == ["kl_mean <= 0.01", "kl_mean <= 0.02"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    (failure,) = root.iter("failure")
    assert "kl_mean is 0.0123 [0.0119, 0.0127] nats a token, asked is <= 0.02" in failure.get("message", "")
    assert "graphopt.toml:3" in (failure.text or "")


@pytest.mark.parametrize(
    ("counts_as", "tag"), [("report", "error"), ("fail", "failure"), ("pass", "skipped")]
)
def test_an_inconclusive_gate_is_what_it_counts_as(counts_as: str, tag: str) -> None:
    text = junit(gate_report("inconclusive", inconclusive=counts_as))
    SCHEMA.validate(text)

    assert [child.tag for case in Xml.fromstring(text).iter("testcase") for child in case] == [tag]


def test_names_that_xml_forbids_are_spelled_out() -> None:
    report = nasty_report()
    text = junit(report)
    SCHEMA.validate(text)
    names = [case.get("name", "") for case in Xml.fromstring(text.encode()).iter("testcase")]

    assert len(names) == len(set(names)) == len(report.outcomes)
    assert max(map(len, names)) <= 255
    assert any("\\x1b[31m" in name for name in names)
    assert any("\\ufffe" in name for name in names)


def test_gates_of_one_name_are_told_apart() -> None:
    report = gate_report("pass", "pass", "fail")
    for outcome in report.outcomes:
        outcome.text = "kl_mean <= 0.02"

    names = [case.get("name") for case in Xml.fromstring(junit(report)).iter("testcase")]
    assert names == ["kl_mean <= 0.02", "kl_mean <= 0.02 #2", "kl_mean <= 0.02 #3"]


def test_the_schema_refuses_what_is_wrong() -> None:
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        SCHEMA.validate(
            junit(gate_report("fail")).replace("<failure ", "<failed ").replace("</failure>", "</failed>")
        )
