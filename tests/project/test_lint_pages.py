"""Each rule has its page, which says what the rule says."""

from __future__ import annotations

from graphopt.plugins import registry
from tests._cache import ROOT
from tests.project.lint_pages import FOLDER, pages


def test_every_rule_has_its_page() -> None:
    wanted = pages(registry.rules())
    written = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / FOLDER).iterdir()}
    assert written == wanted, "to write them: python -m tests.project.lint_pages"
