"""Makes the pictures in docs/report: pages of three packages of the embedded model, as Chromium shows them.

python -m tests.report.screenshots
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import optimize
from graphopt.report import write_page
from tests._cache import ROOT
from tests.report._browser import CHROMIUM, browser, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["PICTURES", "main"]

PICTURES = ROOT / "docs" / "report"
RECIPES = ("int4", "int8", "lossless")
HEIGHT = 1500  # pixels of a page that a picture shows: its first screens
PAPER = (794, 1123)  # A4 in CSS pixels (96 an inch)


def main() -> None:
    """Write all of them."""
    assert CHROMIUM is not None, "chromium is not installed"
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), browser() as chromium:
        packages = [optimize("tiny-coder", f"tiny-{name}", recipe=name) for name in RECIPES]
        for package in packages:
            print(package.path, (package.path / "report.html").stat().st_size, "bytes of report.html")
        write_page(
            Path("compare.html"),
            title=" · ".join(str(package.path) for package in packages),
            reports=[package.report().model_copy(update={"out": str(package.path)}) for package in packages],
        )
        report = packages[0].path / "report.html"
        for scheme in ("light", "dark"):
            _top(chromium, report, f"report-{scheme}.png", scheme)
        _top(chromium, Path("compare.html"), "compare.png", "light")
        _graph(chromium, report)
        _paper(chromium, report)


def _top(chromium: Browser, page: Path, name: str, scheme: str) -> None:
    with opened(chromium, page, scheme=scheme) as one:
        one.page.set_viewport_size({"width": 1200, "height": HEIGHT})
        one.page.screenshot(path=PICTURES / name)


def _graph(chromium: Browser, page: Path) -> None:
    """The graph, with one part chosen."""
    with opened(chromium, page) as one:
        one.page.add_style_tag(content=".top { position: static !important; }")
        parts = one.page.get_by_role("group", name="Graph after").locator(".part.fused")
        parts.filter(has_text="layer 0: self_attn").click()
        one.page.locator("section:has(> .graphs)").screenshot(path=PICTURES / "graph.png")


def _paper(chromium: Browser, page: Path) -> None:
    """The first page on paper."""
    with opened(chromium, page, scheme="dark", width=PAPER[0] - 106) as one:  # margins of 14 mm
        one.page.emulate_media(media="print")
        one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        one.page.set_viewport_size({"width": PAPER[0] - 106, "height": PAPER[1] - 106})
        one.page.screenshot(path=PICTURES / "report-print.png")


if __name__ == "__main__":
    main()
