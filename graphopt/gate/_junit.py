"""JUnit XML: one test case for each gate, as the readers of Jenkins, GitLab and GitHub's actions take it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from graphopt.gate._words import cut, headline, message, titles
from graphopt.report import GateOutcome, GateReport

__all__ = ["junit"]

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to say (section 2.2, Char), not even as a reference."""
_NAME = 250
"""The most characters of a name: GitLab's column of test names holds 255."""
_INCONCLUSIVE = {"report": "error", "fail": "failure", "pass": "skipped"}
"""What an inconclusive gate is in JUnit's words, by what it counts as.

A test that could not find out is an error, beside failures, which found something wrong: all three readers
count both as not passed, and show them apart, as exit code 3 is red and not 1. A skipped test would leave a
red job without a red test. Where inconclusive counts as pass, skipped is just that: no reader counts it as
passed, none as failed.
"""


def junit(report: GateReport) -> str:
    """The report as JUnit XML (Jenkins' junit-10.xsd): a test case for each outcome."""
    cases = [
        _case(outcome, name, report) for outcome, name in zip(report.outcomes, _names(report), strict=True)
    ]
    ends = [child.tag for case in cases for child in case]
    counts = {
        "tests": str(len(cases)),
        "failures": str(ends.count("failure")),
        "errors": str(ends.count("error")),
    }
    time = {"time": f"{sum(report.seconds.values()):.3f}"} if report.seconds else {}
    root = Xml.Element("testsuites", {"name": "graphopt gate", **counts, **time})
    made = report.provenance
    suite = Xml.SubElement(
        root,
        "testsuite",
        {
            "name": _text(f"graphopt gate {made.package}"),
            **counts,
            "skipped": str(ends.count("skipped")),
            **time,
            **({"timestamp": _text(made.date)} if made.date else {}),
        },
    )
    properties = Xml.SubElement(suite, "properties")
    for name, value in _facts(report).items():
        Xml.SubElement(properties, "property", {"name": name, "value": _text(value)})
    suite.extend(cases)
    Xml.SubElement(suite, "system-out").text = _text("\n".join([headline(report), *report.notes]))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _case(outcome: GateOutcome, name: str, report: GateReport) -> Xml.Element:
    # Jenkins takes what stands before the last dot for a package of Java.
    package = report.provenance.package.replace(".", "_")
    case = Xml.Element("testcase", {"classname": _text(f"graphopt.gate.{package}"), "name": name})
    if outcome.verdict != "pass":
        tag = "failure" if outcome.verdict == "fail" else _INCONCLUSIVE[report.inconclusive]
        said = _text(message(outcome))
        end = Xml.SubElement(case, tag, {"type": outcome.verdict, "message": said})
        end.text = f"{said}\n{_text(outcome.where)}"  # GitLab shows the text, Jenkins both
    return case


def _names(report: GateReport) -> list[str]:
    """Titles that XML can hold, cut where they are too long, and still no two alike."""
    names: list[str] = []
    for title in map(_text, titles(report)):
        name = cut(title, _NAME)
        while name in names:
            name = f"{cut(title, _NAME - 8)} #{len(names)}"
        names.append(name)
    return names


def _facts(report: GateReport) -> dict[str, str]:
    made = report.provenance
    facts = {
        "verdict": report.verdict,
        "graphopt": made.graphopt,
        "package": made.package,
        "package_digest": made.package_digest,
        "baseline": made.baseline,
        "processor": made.cpu,
        "threads": str(made.threads) if made.threads else "",
        "commit": made.commit,
    }
    return {name: value for name, value in facts.items() if value}


def _text(text: str) -> str:
    r"""`text` with what XML forbids spelled out, as in `\x1b`."""
    return _FORBIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
