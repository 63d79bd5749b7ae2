"""The page in a real browser: drawn, by keyboard, to a screen reader, on paper, and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from graphopt.report import write_page
from tests.report._browser import CHROMIUM, browser, colours, opened, painted_pages
from tests.report._samples import PAGES, large_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
each_page = pytest.mark.parametrize("name", PAGES)
FOCUSABLE = "a[href], button, summary, [tabindex]"
REACHABLE = "(one) => one.tabIndex >= 0 && one.checkVisibility({contentVisibilityAuto: true})"
SERIOUS = ("serious", "critical")
HELD = 20  # rounds of the Tab key after which a page that lets nobody out of it would be noticed


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def make(name: str) -> Path:
        write_page(tmp_path / f"{name}.html", title=name, **PAGES[name]())
        return tmp_path / f"{name}.html"

    return make


@each_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_without_a_word_and_without_a_request(
    chromium: Browser, file: Any, name: str, scheme: str
) -> None:
    with opened(chromium, file(name), scheme=scheme) as one:
        assert one.said == []
        assert one.asked == []


def test_a_request_and_an_error_would_be_seen(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text("<img src='https://example.com/x.png'><script>throw new Error('planted')</script>")

    with opened(chromium, path) as one:
        one.page.wait_for_load_state("networkidle")
        assert any("planted" in line for line in one.said)
        assert one.asked == ["https://example.com/x.png"]


@each_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn(chromium: Browser, file: Any, name: str, scheme: str) -> None:
    with opened(chromium, file(name), scheme=scheme) as one:
        places = one.page.locator("[data-chart]")
        assert places.count() > 0
        for place in places.all():
            marks = place.locator("svg :is(rect, circle, path, line)").count()
            found = colours(chromium, place.screenshot())
            assert marks >= 3, place.get_attribute("data-chart")
            assert len(found) >= 4, place.get_attribute("data-chart")
            assert max(found.values()) < 0.995 * sum(found.values()), place.get_attribute("data-chart")


def test_an_empty_chart_would_be_seen(chromium: Browser, file: Any) -> None:
    with opened(chromium, file("run")) as one:
        place = one.page.locator("[data-chart]").first
        place.evaluate("(one) => one.querySelector('svg').replaceChildren()")
        found = colours(chromium, place.screenshot())

    assert max(found.values()) >= 0.995 * sum(found.values())


@each_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium: Browser, file: Any, name: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with opened(chromium, file(name), scheme=scheme) as one:
        one.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found = Axe().run(one.page).response["violations"]

    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SERIOUS] == []


def test_axe_would_find_something_serious(chromium: Browser, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    (tmp_path / "x.html").write_text("<title>x</title><button></button><p style='color: #eee'>pale</p>")
    with opened(chromium, tmp_path / "x.html") as one:
        found = Axe().run(one.page).response["violations"]

    assert {"button-name", "color-contrast"} <= {v["id"] for v in found if v["impact"] in SERIOUS}


@each_page
def test_the_tab_key_goes_everywhere_and_shows_where(chromium: Browser, file: Any, name: str) -> None:
    with opened(chromium, file(name)) as one:
        page = one.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        seen = []
        wanted = page.evaluate(f"[...document.querySelectorAll('{FOCUSABLE}')].filter({REACHABLE}).length")
        for _ in range(wanted + HELD):
            seen.append(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
            shown = page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
            assert shown or page.evaluate("document.activeElement.matches('body, .skip')"), seen[-1]
            page.keyboard.press("Tab")
        assert len({*seen}) >= wanted


def test_the_skip_link_leads_to_the_verdict(chromium: Browser, file: Any) -> None:
    with opened(chromium, file("run")) as one:
        one.page.keyboard.press("Tab")
        one.page.keyboard.press("Enter")
        assert one.page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize(("scheme", "said"), [("light", "dark"), ("dark", "light")])
def test_the_colours_follow_the_system_until_the_button_says_otherwise(
    chromium: Browser, file: Any, scheme: str, said: str
) -> None:
    with opened(chromium, file("run"), scheme=scheme) as one:
        button = one.page.get_by_role("button", name=f"Switch to {said} colours")
        before = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
        button.focus()
        one.page.keyboard.press("Enter")
        after = one.page.evaluate("getComputedStyle(document.body).backgroundColor")

        assert before != after
        assert one.page.get_by_role("button", name=f"Switch to {scheme} colours").count() == 1


def test_a_part_of_the_graph_says_where_it_comes_from(chromium: Browser, file: Any) -> None:
    with opened(chromium, file("run")) as one:
        page = one.page
        page.get_by_role("group", name="Graph after").get_by_role("button", name="embed").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        panel = page.get_by_role("region", name="Where nodes come from")

        assert panel.is_visible()
        assert page.evaluate("document.activeElement.className") == "origin"
        said = panel.inner_text()
        assert "layer 0: attn" in said
        assert "fused, attn/0/1 and 3 more" in said
        assert "fold:1" in said
        assert "through grow:1 Gelu (proven)" in said
        assert page.locator(".part.chosen").count() == 2
        page.keyboard.press("Escape")
        assert panel.is_hidden()
        assert page.evaluate("document.activeElement.textContent").startswith("layer 0: attn")


def test_a_part_can_be_clicked_and_one_that_is_gone_says_so(chromium: Browser, file: Any) -> None:
    with opened(chromium, file("run")) as one:
        one.page.get_by_role("group", name="Graph before").get_by_role("button", name="masks").click()
        assert (
            "After: taken out." in one.page.get_by_role("region", name="Where nodes come from").inner_text()
        )


def test_the_graph_is_zoomed_by_buttons_and_by_keyboard(chromium: Browser, file: Any) -> None:
    with opened(chromium, file("run")) as one:
        tools = one.page.get_by_role("group", name="Zoom the graph after")
        world = one.page.locator("[data-side=after] .world")
        seen = [world.evaluate("(one) => one.style.transform")]
        for name in ("Zoom in", "Zoom out", "All"):
            tools.get_by_role("button", name=name).focus()
            one.page.keyboard.press("Enter")
            seen.append(world.evaluate("(one) => one.style.transform"))

    assert all("scale(" in transform for transform in seen)
    assert len({*seen[:2]}) == 2


def test_the_page_of_a_large_model_opens(chromium: Browser, tmp_path: Path) -> None:
    write_page(tmp_path / "large.html", title="large", reports=[large_report()])
    with opened(chromium, tmp_path / "large.html") as one:
        assert one.said == []
        assert one.page.locator(".part").count() == 512


@each_page
def test_it_can_be_printed(chromium: Browser, file: Any, name: str) -> None:
    with opened(chromium, file(name), scheme="dark") as one:
        pages = painted_pages(one.page.pdf(format="A4", print_background=False))
        one.page.emulate_media(media="print")
        ground = one.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--card')")
        drawn = colours(chromium, one.page.locator("[data-chart]").first.screenshot())

    assert len(pages) >= 2
    assert min(pages) >= 5
    assert ground == "#fff"
    assert len(drawn) >= 4


def test_a_blank_page_would_be_seen(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text("<p>one</p><p style='break-before: page'>&nbsp;</p>")
    with opened(chromium, tmp_path / "x.html") as one:
        assert min(painted_pages(one.page.pdf())) < 5


@each_page
def test_a_narrow_screen_needs_no_sideways_scrolling(chromium: Browser, file: Any, name: str) -> None:
    with opened(chromium, file(name), width=400) as one:
        assert one.page.evaluate("document.documentElement.scrollWidth") <= 400


def test_text_of_a_model_does_nothing(chromium: Browser, file: Any) -> None:
    with opened(chromium, file("hostile")) as one:
        assert one.page.locator("img").count() == 0
        assert one.said == []
        assert "onerror" in (one.page.locator("h1").text_content() or "") + one.page.content()
