"""Documentation runs: every command block and every link of every document."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests._cache import ROOT
from tests.project._documents import Block, blocks, broken_links, runnable

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").rglob("*.md")])
WITH_COMMANDS = [path for path in DOCUMENTS if any(map(runnable, blocks(path.read_text())))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name)
def test_every_command_block_runs(path: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ROOT": str(ROOT),
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


def test_blocks_are_found_with_their_line_and_reason() -> None:
    text = "# A\n\n```sh\nls\n```\n\n<!-- not run: needs a network -->\n```sh\ncurl x\n```\n```\nplain\n```\n"

    assert list(blocks(text)) == [Block(4, "sh", "ls\n", None), Block(9, "sh", "curl x\n", "needs a network")]


@pytest.mark.parametrize(
    ("block", "script"),
    [
        (Block(1, "sh", "make test\n", None), 'make --dry-run --directory "$ROOT" >/dev/null test\n'),
        (Block(1, "python", "print('a')\n", None), "python -c 'print('\"'\"'a'\"'\"')\n'\n"),
        (Block(1, "toml", "a = 1\n", None), None),
        (Block(1, "sh", "ls\n", "slow"), None),
    ],
)
def test_blocks_become_scripts(block: Block, script: str | None) -> None:
    assert runnable(block) == script


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("[a](here.md) [b](https://x.y) [c](gone.md#part) [d](#part)")

    assert broken_links(tmp_path / "here.md") == ["gone.md"]
