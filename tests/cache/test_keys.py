"""What an export was made from counts in its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.cache import export_key
from graphopt.export import FOLDER, Source


@pytest.mark.parametrize("module", ["model/2_Dense", "2_Dense"])
def test_weights_of_a_sentence_module_count(module: str, tmp_path: Path) -> None:
    """Within the model's folder, and beside it where the list of modules is above."""
    folder = tmp_path / "model"
    for path, text in {
        folder / "config.json": "{}",
        (tmp_path / module).parent / "modules.json": "[]",
        tmp_path / module / "model.safetensors": "one",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source = Source("model", folder, FOLDER)
    before = export_key(source, "auto")
    (tmp_path / module / "model.safetensors").write_text("two")
    assert before is not None
    assert export_key(source, "auto") != before
