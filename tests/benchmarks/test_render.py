"""docs/performance.md and its charts are what the results render to, and README.md's figures are theirs."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests._cache import ROOT

RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
LONGEST = 150
TEN_POINT = {"10px"}
"""A unit of the charts is a point, since their width is given in points of as many units."""


@pytest.fixture(scope="module")
def render(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("render")


@pytest.fixture(scope="module")
def found(render: Any) -> dict[Path, str]:
    rendered: dict[Path, str] = render.rendered(RESULTS)
    return rendered


def charts(found: dict[Path, str], page: str = "performance") -> dict[str, str]:
    return {
        path.name: text for path, text in found.items() if path.suffix == ".svg" and path.parent.name == page
    }


def test_the_page_and_its_charts_are_what_the_results_render_to(render: Any, found: dict[Path, str]) -> None:
    assert [str(path.relative_to(ROOT)) for path in render.stale(found)] == [], "run `make performance`"


def test_another_figure_makes_page_and_chart_stale(render: Any, tmp_path: Path) -> None:
    other = shutil.copytree(RESULTS, tmp_path / "results") / "speculate.json"
    text = other.read_text()
    assert text.count('{"value": 1.23, "low": 1.16, "high": 1.32}') == 1
    other.write_text(text.replace('"value": 1.23,', '"value": 1.29,'))

    stale = [path.name for path in render.stale(render.rendered(other.parent))]

    assert sorted(stale) == ["drafts-dark.svg", "drafts-light.svg", "performance.md"]


def test_a_chart_that_is_edited_or_left_over_is_stale(
    render: Any, found: dict[Path, str], tmp_path: Path
) -> None:
    moved = {tmp_path / path.relative_to(DOCS): text for path, text in found.items()}
    for path, text in moved.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    edited, left = tmp_path / "performance" / "drafts-light.svg", tmp_path / "performance" / "old.svg"
    edited.write_text(moved[edited] + " ")
    left.write_text("<svg/>")

    assert render.stale(moved, tmp_path) == [edited, left]


@pytest.mark.parametrize(
    ("name", "longest"),
    [("performance", LONGEST), ("compression", 200), ("encoders", 90), ("vision", LONGEST)],
)
def test_the_page_is_short_and_shows_every_chart(name: str, longest: int, found: dict[Path, str]) -> None:
    page = found[DOCS / f"{name}.md"]
    shown = re.findall(rf'(?:src|srcset)="{name}/([\w-]+\.svg)"', page)

    assert len(page.splitlines()) <= longest
    assert sorted(shown) == sorted(charts(found, name))
    assert not re.search(r'alt=""', page)


def test_every_chart_says_what_it_shows_in_text_of_ten_points(found: dict[Path, str]) -> None:
    for name, text in charts(found).items():
        tree = ET.fromstring(text)
        space = {"svg": "http://www.w3.org/2000/svg"}
        assert tree.findtext("svg:title", namespaces=space), name
        assert len(tree.findtext("svg:desc", default="", namespaces=space)) > 200, name
        assert set(re.findall(r"font-size: (\w+)", text)) == TEN_POINT, name
        assert tree.get("width") == f"{tree.get('viewBox', '').split()[2]}pt", name


@pytest.mark.parametrize("name", ["generation", "shapes", "drafts", "encoders"])
def test_charts_of_ratios_show_their_control(name: str, found: dict[Path, str]) -> None:
    assert "(A/A)" in charts(found)[f"{name}-light.svg"].partition("</desc>")[2]


def test_light_and_dark_differ_in_colors_only(found: dict[Path, str]) -> None:
    drawn = charts(found)
    for name in drawn:
        if name.endswith("-light.svg"):
            light, dark = (
                re.sub(r"#[0-9a-f]{6}\b", "#", drawn[one]) for one in (name, name.replace("light", "dark"))
            )
            assert light == dark


def test_settings_of_whoever_renders_change_nothing(
    script: Callable[[str], ModuleType], found: dict[Path, str]
) -> None:
    import matplotlib as mpl

    figures = script("_page").Figures(RESULTS, ROOT / "benchmarks" / "goals.json")
    with mpl.rc_context({"lines.linewidth": 9.0, "axes.grid": True, "font.weight": "bold"}):
        again = script("_charts").svg(script("_performance").drafts(figures), script("_charts").LIGHT)

    assert again == charts(found)["drafts-light.svg"]


def typed(template: str) -> list[str]:
    """Figures in a template that no result gives: not within expressions, code, links or words."""
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|```.*?```|`[^`]*`|\]\([^)]*\)", "", template, flags=re.DOTALL)
    return re.findall(r"(?<![\w.-])\d[\d.]*\d|(?<![\w.-])\d\b", text)


def test_no_figure_is_typed() -> None:
    """But the confidence level, two settings that the charts and tables name, and 8-bit."""
    known = {"95", "32", "256", "2048", "8"}

    assert set(typed((ROOT / "benchmarks" / "performance.md.jinja").read_text())) <= known
    assert typed("It is 1.93 times as fast, {{ say(1) }}, `--x 3`, Llama-3.2-1B, 8-bit") == ["1.93", "8"]


def test_ticks_are_around_all_that_is_drawn(script: Callable[[str], ModuleType]) -> None:
    ticks = script("_charts").ticks

    assert ticks([1.9, 11.0]) == [1, 2, 4, 8, 16]
    assert ticks([0.84, 2.9]) == [0.75, 1, 1.5, 2, 3]
    assert ticks([0.3, 0.9])[0] <= 0.3
    assert ticks([]) == []


LARGE: dict[str, Any] = {"shape": "llama-3.2-1b", "batch": 1, "prompt": 256}
OF_README = [
    ("2.25 [2.20, 2.30] times as fast as llama.cpp's Q4_0", "llama.cpp Q4_0", "prefill_ratio"),
    ("1.93 [1.59, 2.00] times as fast, in one run", "llama.cpp Q4_0", "decode_ratio"),
    ("it is 6.36 [6.30, 6.64] and", "genai builder, defaults", "prefill_ratio"),
    ("and 2.94 [2.46, 3.09] times", "genai builder, defaults", "decode_ratio"),
]


@pytest.mark.parametrize(("text", "peer", "column"), OF_README)
def test_figures_of_the_readme_are_those_of_the_results(
    render: Any, text: str, peer: str, column: str
) -> None:
    figures = render._page.Figures(RESULTS, ROOT / "benchmarks" / "goals.json")
    said = figures.say("decode", "speed", peer, column, **LARGE)

    assert said in text
    assert text in re.sub(r"\s+", " ", (ROOT / "README.md").read_text())


def test_the_readme_has_no_other_figures_of_speed() -> None:
    speed = (ROOT / "README.md").read_text().partition("\n## Speed\n")[2].partition("\n## ")[0]

    assert re.findall(r"\d\.\d+ \[[^]]+\]", speed) == [
        found for text, *_ in OF_README for found in re.findall(r"\d\.\d+ \[[^]]+\]", text)
    ]


def test_a_goal_of_encoders_that_is_missed_is_bold_and_one_that_is_not_measured_says_so(
    tmp_path: Path, render: Any
) -> None:
    results = json.loads((RESULTS / "encoder.json").read_text())
    results["tables"] = [t for t in results["tables"] if t["name"] != "goals"]
    table = next(t for t in results["tables"] if t["name"] == "cosine" and t["cell"]["model"] == "minilm")
    call = {"model": "minilm", "batch": 32, "tokens": 128, "ragged": False, "threads": 1}
    times = {"ms": 4.0, "least": 3.0, "most": 5.0}
    rows = [
        {"peer": "OpenVINO int8", **times, "int8_is": {"value": 0.8, "low": 0.7, "high": 0.9}},
        {
            "peer": "onnxruntime fp32, as exported",
            **times,
            "int8_is": {"value": 3.5, "low": 3.4, "high": 3.6},
        },
    ]
    results["tables"].append(table | {"name": "goals", "cell": call, "rows": rows})
    (tmp_path / "encoder.json").write_text(json.dumps(results))

    text = render.encoders(tmp_path, tmp_path)[tmp_path / "encoders.md"]

    assert "| MiniLM over OpenVINO int8 | 0.85 | 1.1 | **0.80 [0.70, 0.90]** | not measured |" in text
    assert "| ... over fp32 as exported | 3 | 4 | 3.50 [3.40, 3.60] | not measured |" in text
    assert "| OpenVINO int8 | 4.0 (3.0 to 5.0) | 0.80 [0.70, 0.90] | not measured |  |" in text
