"""The tables of docs/targets.md and of tuned sessions are what targets say and what was measured."""

from pathlib import Path

import pytest

from tests.project.targets_table import PAGE, TUNING, written


@pytest.mark.parametrize("page", [PAGE, TUNING], ids=lambda page: page.name)
def test_the_tables_are_what_the_targets_say(page: Path) -> None:
    said = "write them anew: python -m tests.project.targets_table"
    assert written(page) == page.read_text(encoding="utf-8"), said
