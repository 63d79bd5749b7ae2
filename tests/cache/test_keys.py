"""What an export was made from counts in its key."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphopt_models.encoder import Encoder

from graphopt.cache import export_key
from graphopt.export import FOLDER, Source
from graphopt.plugins import registry


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


def test_a_family_says_what_else_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Encoder):
        name = "elsewhere"

        def also_read(self, source_dir: Path) -> list[Path]:
            return [tmp_path / "vocabulary.bin"]

    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "vocabulary.bin").write_text("one")
    source = Source("model", folder, FOLDER)
    keys = [export_key(source, "auto")]
    monkeypatch.setattr(registry, "families", lambda: {"elsewhere": Elsewhere})
    keys.append(export_key(source, "auto"))
    (tmp_path / "vocabulary.bin").write_text("two")
    keys.append(export_key(source, "auto"))
    assert len({*keys}) == 3
