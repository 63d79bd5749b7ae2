"""Windows are whole and long, packages differ in their cache alone, and damage is told by place."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from graphopt.metrics import Estimate

Script = Callable[[str], ModuleType]


def test_windows_are_the_held_out_text_in_order(script: Script) -> None:
    long = script("long")
    source = long.LONG

    found = long.windows(source)

    ids = long.Tokenizer(source).plain(long.built_in_corpus().text)
    assert {len(one) for one in found} == {long.WINDOW}
    assert len(ids) - len(found) * long.WINDOW < long.WINDOW
    assert np.concatenate(found).tolist() == ids[: len(found) * long.WINDOW]


def test_caches_are_added_to_the_recipes(script: Script, tmp_path: Path) -> None:
    found = {recipe.name: recipe for recipe in script("long").recipes(tmp_path)}
    words = {name: (r.make(tmp_path, tmp_path) if r.make else []) for name, r in found.items()}
    four: dict[str, Any] = tomllib.loads((tmp_path / "int4-kv4.toml").read_text())

    assert len({recipe.slug for recipe in found.values()}) == len(found)
    assert "int8" in words["graphopt int8"]
    assert str(tmp_path / "int4-kv4.toml") in words["graphopt int4, 4-bit cache"]
    assert four["extends"] == "int4"
    assert four["group"]["store"] == [{"name": "quantize-kv", "bits": 4}]


def test_damage_is_told_by_place(script: Script) -> None:
    long = script("long")
    near = np.repeat([1.0, 2.0, 4.0], long.WINDOW // 3)

    row = long.row_of("x", [near, 2 * near])

    values = [cell.value for cell in row.values() if isinstance(cell, Estimate)]
    np.testing.assert_allclose(values, [1.5, 3, 6])
