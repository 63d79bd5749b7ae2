"""The vendored charts are what scripts/vendor-charts recorded, whole, and under licences that are there."""

from __future__ import annotations

import hashlib
import json
import re

from tests._cache import ROOT

PAGE = ROOT / "graphopt" / "report" / "page"
RECORD = json.loads((PAGE / "charts.json").read_text())
LOCKED = json.loads((ROOT / "scripts" / "charts" / "package-lock.json").read_text())["packages"]


def test_the_digest_is_the_recorded_one() -> None:
    assert hashlib.sha256((PAGE / "charts.js").read_bytes()).hexdigest() == RECORD["sha256"]


def test_the_versions_are_the_locked_ones() -> None:
    assert RECORD["bundler"] == f"esbuild {LOCKED['node_modules/esbuild']['version']}"
    assert RECORD["packages"]
    for name, said in RECORD["packages"].items():
        assert said["version"] == LOCKED[f"node_modules/{name}"]["version"], name


def test_the_licence_of_each_package_is_beside_it_and_named_by_the_project() -> None:
    text = (PAGE / "charts.LICENSE").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    expression = re.search(r'^license = "(.+)"$', project, re.MULTILINE)

    assert "graphopt/report/page/charts.LICENSE" in project
    assert expression is not None
    for name, said in RECORD["packages"].items():
        assert f"{name} {said['version']} ({said['license']})" in text
        assert said["license"] in expression[1].split(" AND ")


def test_the_script_can_stand_inside_a_page() -> None:
    script = (PAGE / "charts.js").read_text()

    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert not re.search(r"\beval\(|new Function\(|\bfetch\(|XMLHttpRequest|import\(", script)
