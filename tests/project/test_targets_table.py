"""The tables of docs/targets.md are what the targets say."""

from tests.project.targets_table import PAGE, written


def test_the_tables_are_what_the_targets_say() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert written(page) == page, "write them anew: python -m tests.project.targets_table"
