"""A real browser for the page: Chromium, without a network."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["CHROMIUM", "Opened", "browser", "colours", "opened", "painted_pages"]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_COLOURS = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const counts = {};
  const bytes = context.getImageData(0, 0, image.width, image.height).data;
  for (let i = 0; i < bytes.length; i += 4) {
    const key = [...bytes.slice(i, i + 3)].map((one) => one.toString(16).padStart(2, "0")).join("");
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}"""


@dataclass
class Opened:
    """A page in a browser, what its console said, and what it asked for from elsewhere."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextlib.contextmanager
def opened(started: Browser, path: Path, *, scheme: str = "light", width: int = 1200) -> Iterator[Opened]:
    """The file at `path`, drawn, where the system is `scheme`; every request but for it is refused."""
    context = started.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    one = Opened(context.new_page())
    address = path.resolve().as_uri()

    def answer(route: Any) -> None:
        if route.request.url.partition("#")[0] == address:
            route.continue_()
        else:
            one.asked.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    one.page.on("console", lambda message: one.said.append(f"{message.type}: {message.text}"))
    one.page.on("pageerror", lambda error: one.said.append(str(error)))
    one.page.goto(address)
    one.page.wait_for_function(
        "[...document.querySelectorAll('[data-chart]')].every((e) => e.querySelector('svg'))"
    )
    yield one
    context.close()


def colours(started: Browser, png: bytes) -> dict[str, int]:
    """How many pixels of a picture have each colour, `rrggbb`."""
    page = started.new_page()
    try:
        found: dict[str, int] = page.evaluate(
            _COLOURS, "data:image/png;base64," + base64.b64encode(png).decode()
        )
        return found
    finally:
        page.close()


def painted_pages(pdf: bytes) -> list[int]:
    """For each page of a PDF how much is painted on it: operators that show text or fill a shape."""
    streams = {
        int(match[1]): pdf[match.end() :].split(b"endstream", 1)[0]
        for match in re.finditer(rb"(\d+) 0 obj\s*<<[^>]*/Filter /FlateDecode[^>]*>>\s*stream\r?\n", pdf)
    }
    pages = re.findall(rb"/Type /Page\b.*?/Contents (\d+) 0 R", pdf, re.DOTALL)
    return [
        len(re.findall(rb"\b(?:Tj|TJ|f)\s", zlib.decompressobj().decompress(streams[int(n)]))) for n in pages
    ]
