"""Documentation runs: every command block and every link of every document.

The blocks of one document run in order in one folder, so a later one may use what an earlier one wrote.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests._cache import ROOT
from tests.project._documents import Block, blocks, broken_links, runnable, unknown_names

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").rglob("*.md")])
WITH_COMMANDS = [path for path in DOCUMENTS if any(map(runnable, blocks(path.read_text())))]


RECIPE = re.compile(
    r"""^(?:graphopt optimize tiny-coder .*--recipe |.*\boptimize\("tiny-coder", .*\brecipe=")"""
    r"""(int4|int8|lossless)(?: --quiet|", force=True\))?$""",
    re.MULTILINE,
)


def recipes_of(document: str) -> list[str]:
    """Recipes that it makes packages of the embedded model by, as other tests do, too."""
    return sorted(set(RECIPE.findall(document)))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name)
def test_every_command_block_runs(
    path: Path,
    begun: Path,
    tiny_coder_at: Callable[[str], Path],
    warm_programs: Path,
    own_cache: Path,
    tmp_path: Path,
) -> None:
    """With what earlier runs left in graphopt's cache; `scripts/wheel-demo` begins with nothing."""
    made = [tiny_coder_at(recipe).parent / "cache" for recipe in recipes_of(path.read_text())]
    for cache in made or [begun]:
        shutil.copytree(cache, own_cache, dirs_exist_ok=True)
    programs = [str(warm_programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {
        "PATH": os.pathsep.join(programs),
        "ROOT": str(ROOT),
        # `pip install ./plugin` of a document lands beside it and asks no index.
        "PIP_TARGET": str(tmp_path / "site"),
        "PYTHONPATH": str(tmp_path / "site"),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    for block in blocks(path.read_text()):
        if script := runnable(block):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{name(path)}:{block.line}\n{script}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.name != "CHANGELOG.md"], ids=name)
def test_every_name_of_graphopt_is_there(path: Path) -> None:
    assert unknown_names(path.read_text(), ROOT) == []


def test_a_name_that_has_moved_is_found() -> None:
    text = (
        "`graphopt.ir.Sliced`, `graphopt.pipeline.Edit.assumes`, graphopt/ir, graphopt.toml, graphopt.passes"
    )
    gone = "`graphopt.ir.Slice`, graphopt.lock, `graphopt.nowhere`, `graphopt/_nowhere.py`"

    assert unknown_names(text, ROOT) == []
    assert unknown_names(gone, ROOT) == ["graphopt.ir.Slice", "graphopt.nowhere", "graphopt/_nowhere.py"]


def test_blocks_are_found_with_their_line_and_mark() -> None:
    text = "# A\n\n```sh\nls\n```\n\n<!-- not run: needs a network -->\n```sh\ncurl x\n```\n```\nplain\n```\n"

    assert list(blocks(text)) == [
        Block(4, "sh", "ls\n"),
        Block(9, "sh", "curl x\n", "not run", "needs a network"),
    ]


@pytest.mark.parametrize(
    ("block", "output"),
    [
        (Block(1, "sh", "echo one\necho two\n"), "one\ntwo\n"),
        (Block(1, "python", "print('a', \"b\")\n"), "a b\n"),
        (Block(1, "toml", "a = 'x'\n", "file", "d/f.toml"), ""),
    ],
)
def test_blocks_become_scripts(block: Block, output: str, tmp_path: Path) -> None:
    script = runnable(block)
    assert script is not None
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)

    assert done.stdout == output
    assert block.value is None or (tmp_path / block.value).read_text() == block.text


def test_some_blocks_are_not_run() -> None:
    assert runnable(Block(1, "toml", "a = 1\n")) is None
    assert runnable(Block(1, "sh", "ls\n", "not run", "slow")) is None


def test_an_unknown_make_verb_fails() -> None:
    script = runnable(Block(1, "sh", "make nonsense\n"))
    assert script is not None
    done = subprocess.run(["bash", "-c", script], env=os.environ | {"ROOT": str(ROOT)}, capture_output=True)

    assert done.returncode != 0


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("[a](here.md) [b](https://x.y) [c](gone.md#part) [d](#part)")

    assert broken_links(tmp_path / "here.md") == ["gone.md"]
