"""Folders of a language model changed at random, before and after: an exit code answers, never a bug.

`make fuzz` tries more, other ones each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt
from tests.hostile._limited import run_limited
from tests.hostile._mutations import ALWAYS, damage

TIMES = int(os.environ.get("FUZZ", "0")) // 500 or 1
MEMORY = 24 << 30
"""Bytes of address space: torch takes ten, of which little is used."""
SECONDS = 120
SAY = ("run", "folder", "def f", "--max-new-tokens", "2", "--chat")
TEMPLATE = "{% for m in messages %}{{ m.role ~ ':' }}{{ m['content'] | trim }}{% endfor %}"


@pytest.fixture(scope="module")
def package(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "folder"
    graphopt.optimize(tiny_model("llama"), folder, recipe="lossless", verify="off", validate=False)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def answer(whole: Path, data: st.DataObject, *arguments: str) -> None:
    """Damage one of the texts in a copy of the folder `whole`, and run the command line beside it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "place" / "folder"
        shutil.copytree(whole, folder)
        texts = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".txt", ".jinja", ".lock"))
        path = data.draw(st.sampled_from(texts))
        damage(path, data)
        done = run_limited(arguments, folder.parent, memory=MEMORY, seconds=SECONDS)
        assert done.code in (0, 1, 2, 3), f"{path.name}: {done.code}\n{done.out}\n{done.err}"
        assert "Traceback" not in done.err


def test_a_whole_package_speaks(package: Path) -> None:
    done = run_limited(SAY, package.parent, memory=MEMORY, seconds=SECONDS)
    assert (done.code, "Traceback" in done.err) == (0, False), done.err


@settings(ALWAYS, max_examples=8 * TIMES)
@given(st.data())
def test_damaged_packages_speak_or_say_why_not(package: Path, data: st.DataObject) -> None:
    answer(package, data, *SAY)


@settings(ALWAYS, max_examples=2 * TIMES)
@given(st.data())
def test_damaged_checkpoints_are_exported_or_refused(
    tiny_model: Callable[..., Path], data: st.DataObject
) -> None:
    answer(tiny_model("llama"), data, "export", "folder", "-o", "out")
