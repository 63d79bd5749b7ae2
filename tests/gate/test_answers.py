"""The page of a gate shows texts that both generate, whether or not a gate is about them."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.cli._main import run


def test_a_page_comes_with_answers(
    tiny_coder_at: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = str(tiny_coder_at("int4"))
    asked = ["gate", package, "--baseline", package, "-q", "--tokens", "300", "--json", "result.json"]

    assert run([*asked, "--gate", "kl_mean <= 0"]) == 0
    assert json.loads(Path("result.json").read_text())["generations"] == []
    assert run([*asked, "--gate", "kl_mean <= 0", "--html", "page.html"]) == 0
    generations = json.loads(Path("result.json").read_text())["generations"]
    assert generations
    assert all(one["answer"] == one["reference"] for one in generations)
    assert html.escape(generations[0]["answer"].strip()[:20]) in Path("page.html").read_text()
