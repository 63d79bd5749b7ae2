"""The published schemas are what the code says. `python -m tests.gate.test_schema` writes them."""

from __future__ import annotations

import json

from graphopt.gate import config_schema
from tests._cache import ROOT

CONFIG = ROOT / "docs" / "schemas" / "graphopt.schema.json"


def _text() -> str:
    return json.dumps(config_schema(), indent=2) + "\n"


def test_the_schema_of_graphopt_toml_is_up_to_date() -> None:
    assert CONFIG.read_text(encoding="utf-8") == _text(), "run python -m tests.gate.test_schema"


if __name__ == "__main__":
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(_text(), encoding="utf-8")
