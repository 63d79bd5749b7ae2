"""Makes the pictures in docs/report: pages of three packages of the embedded model, as Chromium shows them.

python -m tests.report.screenshots
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import Package, optimize
from graphopt.report import Report, write_page
from tests._cache import ROOT
from tests.report._browser import CHROMIUM, browser, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["PICTURES", "main"]

PICTURES = ROOT / "docs" / "report"
RECIPES = ("int4", "int8", "lossless")
HEIGHT = 1500  # pixels of a page that a picture shows: its first screens
PAPER = (794, 1123)  # A4 in CSS pixels (96 an inch)


def main(folder: Path) -> None:
    """Write all of them, of the packages in `folder`, where those that are not there are made."""
    assert CHROMIUM is not None, "chromium is not installed"
    PICTURES.mkdir(exist_ok=True)
    with contextlib.chdir(folder), browser() as chromium:
        reports = [_report(name) for name in RECIPES]
        first = reports[0]
        write_page(
            Path("report.html"), title=f"{first.source}, {first.recipe} on {first.target}", reports=[first]
        )
        write_page(Path("compare.html"), title=" · ".join(one.out for one in reports), reports=reports)
        for scheme in ("light", "dark"):
            _top(chromium, Path("report.html"), f"report-{scheme}.png", scheme)
        _top(chromium, Path("compare.html"), "compare.png", "light")
        _graph(chromium, Path("report.html"))
        _paper(chromium, Path("report.html"))
        for page in ("report.html", "compare.html"):
            print(page, Path(page).stat().st_size, "bytes")


def _report(recipe: str) -> Report:
    name = f"tiny-{recipe}"
    package = Package.load(name) if Path(name).exists() else optimize("tiny-coder", name, recipe=recipe)
    return package.report().model_copy(update={"out": name})


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
    with opened(chromium, page, scheme="dark", width=PAPER[0]) as one:
        one.page.set_viewport_size(dict(zip(("width", "height"), PAPER, strict=True)))
        one.page.emulate_media(media="print")
        one.page.add_style_tag(content="body { padding: 14mm; }")  # the margins of page.css
        one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        one.page.screenshot(path=PICTURES / "report-print.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
