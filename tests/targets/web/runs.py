"""The embedded model's package really running in onnxruntime-web and transformers.js: in node, and in a page.

Not among the tests of `make test`: `make test-web` installs what it needs beside node, npm and chromium.
"""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from graphopt import Package, optimize
from graphopt.plugins import registry
from graphopt.runtime import Tokenizer
from tests._cache import ROOT
from tests.report._browser import browser

WEB = ROOT / "build" / "web"
PROMPTS = (
    "def fibonacci(n):\n",
    "import os\n",
    'class Stack:\n    """A stack."""\n\n    def push(self, item):\n',
    "for line in open(path):\n",
)
COUNT = 64
NEAR_TIE = {"lossless": 1e-3, "int4": 0.2}
"""Of logits: where the second is as near as that to the first, other instructions may choose it. With 4 bits
activations are rounded to 8, and rounded otherwise where sums differ in the last bit."""

Expected = list[tuple[list[int], list[float]]]


@pytest.fixture(scope="module", params=NEAR_TIE)
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def package(cached: Callable[[str, Callable[[Path], None]], Path], recipe: str) -> Package:
    def build(folder: Path) -> None:
        optimize("tiny-coder", folder / "package", recipe=recipe, target="web")

    return Package.load(cached(f"tiny-coder-{recipe}-web", build) / "package")


@pytest.fixture(scope="module")
def prompts(package: Package) -> list[list[int]]:
    tokenizer = Tokenizer(package.path)
    return [tokenizer.plain(text) for text in PROMPTS]


@pytest.fixture(scope="module")
def expected(package: Package, prompts: list[list[int]]) -> Expected:
    """What the cpu target makes of the same graph: tokens, and how far the second was behind each."""
    cpu = registry.targets()["cpu"]()
    session = cpu.session(package.path / package.manifest.graphs["model"].file)
    states = package.manifest.graphs["model"].states
    answers = []
    for prompt in prompts:
        decoder = cpu.decoder(package.path, session, length=len(prompt) + COUNT, states=states)
        tokens, margins, fed = [], [], prompt
        for _ in range(COUNT):
            second, first = np.sort(logits := decoder.append(np.asarray(fed))[0, -1])[-2:]
            tokens.append(int(logits.argmax()))
            margins.append(float(first - second))
            fed = tokens[-1:]
        answers.append((tokens, margins))
    return answers


def node(script: str, **asked: Any) -> Any:
    done = subprocess.run(
        ["node", script], cwd=WEB, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the two folders, isolated: else a page has no memory that threads share."""

    def __init__(self, *args: Any, package: Path, **options: Any) -> None:
        self.package = package
        super().__init__(*args, directory=str(WEB), **options)

    def translate_path(self, path: str) -> str:
        if path.startswith("/package/"):
            return str(self.package / path.removeprefix("/package/").partition("?")[0])
        return super().translate_path(path)

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def page(package: Package) -> Iterator[Any]:
    assert shutil.which("chromium"), "chromium is not installed"
    handler = functools.partial(Handler, package=package.path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser() as chromium:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = chromium.new_page()
        opened.goto(f"http://127.0.0.1:{server.server_port}/page.html")
        opened.wait_for_function("window.ready")
        yield opened
        server.shutdown()


def require_same(answers: Sequence[dict[str, Any]], expected: Expected, near: float) -> None:
    """Token by token; from where a near-tie was decided otherwise a text is another one."""
    assert len(answers) == len(expected)
    for answer, (tokens, margins) in zip(answers, expected, strict=True):
        assert len(answer["tokens"]) == COUNT
        first = next((i for i in range(COUNT) if answer["tokens"][i] != tokens[i]), None)
        if first is not None:
            print(f"another token at {first}, the second {margins[first]:.4f} behind")
            assert margins[first] < near
        same = slice(0, first)
        print(f"margins off by {np.abs(np.subtract(answer['margins'][same], margins[same])).max():.2e}")


@pytest.mark.parametrize("threads", [1, 2])
def test_node_writes_what_the_cpu_target_writes(
    package: Package, prompts: list[list[int]], expected: Expected, recipe: str, threads: int
) -> None:
    found = node("node.js", package=str(package.path), prompts=prompts, count=COUNT, threads=threads)

    print(found["version"])
    require_same(found["answers"], expected, NEAR_TIE[recipe])


def test_a_page_writes_what_the_cpu_target_writes(
    page: Any, prompts: list[list[int]], expected: Expected, recipe: str
) -> None:
    found = page.evaluate("answer", {"prompts": prompts, "count": COUNT, "threads": 2})

    assert found["isolated"]
    require_same(found["answers"], expected, NEAR_TIE[recipe])
    assert json.loads(page.inner_text("#text")) == [answer["tokens"] for answer in found["answers"]]


def require_same_text(package: Package, found: Sequence[str], expected: Expected, near: float) -> None:
    """As `require_same`, of texts that hold their prompts and end where the model ends them."""
    words = tokenizers.Tokenizer.from_file(str(package.path / "tokenizer.json"))
    for prompt, text, (tokens, margins) in zip(PROMPTS, found, expected, strict=True):
        answer = [*itertools.takewhile(bool, tokens)]  # 0 is <|endoftext|>
        wanted = [prompt + words.decode(answer[: length + 1]) for length in range(len(answer))]
        first = next((i for i, start in enumerate(wanted) if not text.startswith(start)), None)
        if first is None:
            assert text == wanted[-1]
        else:
            print(f"another token at {first}, the second {margins[first]:.4f} behind")
            assert margins[first] < near


def test_transformers_js_writes_it_in_node(package: Package, expected: Expected, recipe: str) -> None:
    found = node("transformers.js", root=f"{package.path.parent}/", prompts=PROMPTS, count=COUNT)

    print(found["version"])
    require_same_text(package, found["texts"], expected, NEAR_TIE[recipe])


def test_transformers_js_writes_it_in_a_page(
    package: Package, page: Any, expected: Expected, recipe: str
) -> None:
    found = page.evaluate("transformers", {"prompts": PROMPTS, "count": COUNT})

    require_same_text(package, found["texts"], expected, NEAR_TIE[recipe])


def test_the_table_is_what_onnxruntime_web_says(tmp_path: Path) -> None:
    table = tmp_path / "web.toml"
    shutil.copyfile(ROOT / "targets" / "web.toml", table)
    command = [sys.executable, "-W", "ignore", "scripts/web/kernels.py", str(table)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert not [line for line in done.stdout.splitlines() if line.startswith(("+ ", "- "))]
