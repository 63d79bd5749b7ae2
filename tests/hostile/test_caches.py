"""A cache changed at random: what is damaged is made anew, to the same bytes; it is never believed.

`make fuzz` tries more, other ones each time.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from tests.hostile._limited import Outcome, run_limited
from tests.hostile._mutations import ALWAYS, damage
from tests.hostile.test_packages import MODEL

EXAMPLES = int(os.environ.get("FUZZ", "0")) // 20 or 6


def ask(folder: Path, cache: str, *arguments: str) -> Outcome:
    environment = {"GRAPHOPT_CACHE": str(folder / cache), "GRAPHOPT_CACHE_SIZE": "100MB"}
    done = run_limited(arguments, folder, environment=environment)
    assert "Traceback" not in done.err
    return done


def optimize(folder: Path, cache: str) -> bytes:
    done = ask(folder, cache, "optimize", "net.onnx", "-o", "out", "--no-validate", "--quiet", "--force")
    assert done.code == 0, done.err
    return (folder / "out" / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder with a model and the cache that optimizing it left, and what was made."""
    folder = tmp_path_factory.mktemp("whole") / "folder"
    folder.mkdir()
    onnx.save(parser.parse_model(MODEL), folder / "net.onnx")
    return folder, optimize(folder, "cache")


def test_a_whole_cache_is_used(whole: tuple[Path, bytes]) -> None:
    folder, made = whole
    shutil.copytree(folder / "cache", folder / "copy")
    assert optimize(folder, "copy") == made
    report = json.loads((folder / "out" / "report.json").read_text())
    assert [step["step"] for step in report["passes"] if not step["cached"]] == []


@settings(ALWAYS, max_examples=EXAMPLES)
@given(st.data())
def test_what_is_damaged_is_made_anew(whole: tuple[Path, bytes], data: st.DataObject) -> None:
    folder, made = whole
    shutil.rmtree(folder / "damaged", ignore_errors=True)
    shutil.copytree(folder / "cache", folder / "damaged")
    files = sorted(path for path in (folder / "damaged").rglob("*") if path.is_file())
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=4, unique=True)):
        damage(path, data)
    assert ask(folder, "damaged", "cache", "list").code == 0
    assert optimize(folder, "damaged") == made
    assert ask(folder, "damaged", "cache", "clear").code == 0
