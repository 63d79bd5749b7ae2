"""The page: what it says, that it holds all it needs, and that no text of a model's becomes its code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graphopt.report import ClosingReport, Report, write_page
from tests.report._samples import (
    HOSTILE,
    comparison,
    coverage,
    edit,
    gate_report,
    graph_view,
    hostile_gate,
    hostile_report,
    large_report,
    outcome,
    report,
    step,
    three_reports,
)

SMALL_LIMIT, LARGE_LIMIT = (
    3_000_000,
    8_000_000,
)  # bytes of the page of a small model, and of one of 1 B weights


class Page(HTMLParser):
    """Tags with their attributes, the page's text, and of its scripts the data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.data: Any = None
        self.graphs: Any = None
        self._within = [""]
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._within.pop() if len(self._within) > 1 else None

    def handle_data(self, data: str) -> None:
        if self._within[-1] == "charts":
            self.data = json.loads(data)
        elif self._within[-1] == "graphs":
            self.graphs = json.loads(data)
        elif not self._within[-1]:
            self.words.append(data)


@pytest.fixture
def page(tmp_path: Path) -> Any:
    def make(*reports: Report, title: str = "a title", **options: Any) -> Page:
        write_page(tmp_path / "page.html", title=title, reports=reports, **options)
        return Page(tmp_path / "page.html")

    return make


def test_the_verdict_comes_first_with_its_reason(page: Any) -> None:
    text = page(report()).text
    text = text[text.rindex("a title") :]  # after the links to sections

    assert text.index("Passed") < text.index("Accuracy") < text.index("What each pass did")
    assert "It keeps the budget of int4 in all 3 comparisons with the source in PyTorch, fp32" in text
    assert "mean KL divergence of logits in “held-out text”, 0.056 nats a token where at most 0.08" in text


@pytest.mark.parametrize(
    ("closing", "said"),
    [
        (
            ClosingReport(verdict="failed", metrics=[comparison("decode", 0.2)]),
            "Failed It differs from its source by more than int4 allows: mean KL divergence of logits in",
        ),
        (
            ClosingReport(verdict="inconclusive", reason="no input is known"),
            "Inconclusive no input is known.",
        ),
        (ClosingReport(verdict="not run"), "Not compared Nothing says that it behaves like its source"),
    ],
)
def test_a_verdict_that_is_no_pass_says_why(page: Any, closing: ClosingReport, said: str) -> None:
    text = page(report(closing=closing)).text

    assert said in text
    assert "Passed" not in text


def test_edits_that_could_not_be_checked_are_in_the_verdict(page: Any) -> None:
    fold = step("fold", (9, 8), (4, 4), edits=[edit(1, verdict="unproven", reason="no kernel")])

    assert "1 edit could not be checked." in page(report(passes=[fold])).text


def test_every_pass_is_in_the_table_and_its_edits_too(page: Any) -> None:
    text = page(report()).text

    assert "fold exact 3 100 → 60 4 MB 0.4 s 0.1 s structure, 3 proven" in text
    assert "almost matched: two uses" in text
    assert "Found nothing to do: upgrade." in text
    assert "Gelu 3 applied proven numeric" in text
    assert "4-bit weight 8 applied within budget numeric 19.2 12" in text


def test_a_waterfall_goes_from_the_first_graph_to_the_last(page: Any) -> None:
    nodes = page(report()).data["run-1-model-nodes"]["data"]
    weights = page(report()).data["run-1-model-bytes"]["data"]

    assert [end["value"] for end in nodes["ends"]] == [100, 66]
    assert [(row["from"], row["to"], row["text"]) for row in nodes["rows"]] == [
        (100, 60, "\N{MINUS SIGN}40"),
        (60, 66, "+6"),
    ]
    assert weights["unit"] == "MB"
    assert [row["name"] for row in weights["rows"]] == ["quantize"]


def test_graphs_of_one_package_have_waterfalls_of_their_own(page: Any) -> None:
    passes = [step("fold", (9, 8), (4, 4), role="encoder"), step("fold", (7, 5), (4, 4), role="decoder")]
    data = page(report(passes=passes)).data

    assert data["run-1-encoder-nodes"]["data"]["ends"][0]["value"] == 9
    assert data["run-1-decoder-nodes"]["data"]["ends"][1]["value"] == 5


def test_damage_is_by_layer_with_its_bound(page: Any) -> None:
    view = graph_view()
    view.after.groups[1].edits = ["quantize:1", "quantize:2"]
    view.after.groups[3].edits = ["quantize:3"]
    shown = page(report(views={"model": view}))
    damage = shown.data["run-1-damage-3"]["data"]

    assert (damage["bound"], damage["unit"], damage["layers"]) == (12.0, "dB", ["0", "other"])
    assert [(one["layer"], one["value"]) for one in damage["rows"][:3]] == [
        ("0", pytest.approx(19.9)),
        ("0", pytest.approx(19.8)),
        ("other", pytest.approx(19.7)),
    ]
    assert "0 2 19.8 dB layer 0: attn: 4-bit weight" in shown.text


def test_damage_without_a_view_is_of_no_layer(page: Any) -> None:
    assert page(report()).data["run-1-damage-3"]["data"]["layers"] == ["other"]


def test_the_command_makes_it_again(page: Any) -> None:
    made = report(out="out; rm -rf x")

    assert (
        "graphopt optimize a-model -o 'out; rm -rf x' --locked 'out; rm -rf x/graphopt.lock'"
        in page(made).text
    )


def test_values_that_are_not_finite_are_shown_and_break_no_chart(page: Any) -> None:
    nan, inf = (
        comparison("decode", float("nan"), holds=False),
        comparison("prefill", float("inf"), holds=False),
    )
    shown = page(report(closing=ClosingReport(verdict="failed", metrics=[nan, inf])))

    assert "nan nats a token" in shown.text
    assert [row["share"] for row in shown.data["run-1-closing"]["data"]["rows"]] == [None, None]


def test_no_text_of_a_model_becomes_markup(page: Any) -> None:
    tame = page(report(views={"model": graph_view()}), gate=gate_report())
    wild = page(hostile_report(), title=HOSTILE, gate=hostile_gate())

    assert {tag for tag, _ in wild.tags} - {tag for tag, _ in tame.tags} <= {"small"}
    assert sum(tag == "script" for tag, _ in wild.tags) == 5
    assert not any(name.startswith("on") for _, attributes in wild.tags for name in attributes)
    assert wild.text.count(HOSTILE) > 5


def test_a_planted_tag_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text(f"<p>{HOSTILE}</p>")

    assert ("img", {"src": "x", "onerror": "alert(1)"}) in Page(tmp_path / "x.html").tags


def test_everything_it_needs_is_inside(page: Any) -> None:
    shown = page(report())
    links = [a.get(name) or "" for _, a in shown.tags for name in ("src", "href", "data") if name in a]

    assert links
    assert all(link.startswith("#") for link in links)
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in shown.tags}
    (policy,) = [
        a["content"] or "" for _, a in shown.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")


def test_links_and_labels_lead_to_elements_that_are_there_once(page: Any) -> None:
    for shown in (page(report()), page(report(), report(recipe="int8"))):
        ids = [a["id"] for _, a in shown.tags if "id" in a]
        wanted = {a["href"][1:] for tag, a in shown.tags if tag == "a"} | {
            a["aria-labelledby"] for _, a in shown.tags if "aria-labelledby" in a
        }

        assert len(ids) == len({*ids})
        assert wanted <= {*ids}


def test_every_chart_has_data_and_words(page: Any) -> None:
    shown = page(report())
    places = [a for _, a in shown.tags if "data-chart" in a]

    assert {a["data-chart"] for a in places} == shown.data.keys()
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in places)


def test_headings_leave_no_level_out(page: Any) -> None:
    for shown in (page(report()), page(report(), report(recipe="int8"))):
        levels = [int(tag[1]) for tag, _ in shown.tags if re.fullmatch(r"h[1-6]", tag)]

        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page(tmp_path / name, title="t", reports=[report()])

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_pages_are_of_a_size_that_can_be_mailed(tmp_path: Path) -> None:
    write_page(tmp_path / "small", title="t", reports=[report()])
    write_page(tmp_path / "large", title="t", reports=[large_report()])

    assert (tmp_path / "small").stat().st_size <= SMALL_LIMIT
    assert (tmp_path / "large").stat().st_size <= LARGE_LIMIT


@pytest.mark.slow
def test_the_embedded_model_has_a_page(tiny_coder_at: Callable[[str], Path]) -> None:
    path = tiny_coder_at("int4") / "report.html"
    shown = Page(path)

    assert path.stat().st_size <= SMALL_LIMIT
    assert "It keeps the budget of int4" in shown.text
    assert {chart["kind"] for chart in shown.data.values()} == {"shares", "waterfall", "pairs", "damage"}
    (drawn,) = shown.graphs.values()
    assert any(part["fused"] and part["origins"] for part in drawn["after"]["groups"])


def test_what_is_left_out_is_counted(page: Any) -> None:
    text = page(large_report()).text

    assert "report.json has 400 more kinds of edit." in text
    assert "report.json has 100 more reasons." in text


def test_a_page_is_about_something(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="about a report or a gate"):
        write_page(tmp_path / "x", title="t")


def test_a_gate_says_what_is_broken_first(page: Any) -> None:
    text = page(gate=gate_report()).text
    text = text[text.rindex("a title") :]

    assert (
        "Fail 1 of 6 gates broken. tpot <= 1.05: 1.22x [1.19x, 1.25x]; slower by more than is allowed."
        in text
    )
    assert text.index("slower by more") < text.index("12,000 more tokens") < text.index("kl_mean <= 0.02")
    assert "corrected for 6 gates by Holm" in text
    assert "graphopt gate a-model-int4 --baseline a-model" in text


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("pass", "Pass All 6 gates hold."),
        ("inconclusive", "Inconclusive 1 of 6 gates undecided. perplexity_ratio"),
    ],
)
def test_a_gate_that_is_not_broken_says_so(page: Any, verdict: str, said: str) -> None:
    assert said in page(gate=gate_report(verdict=verdict)).text


def test_intervals_are_drawn_with_bound_and_control(page: Any) -> None:
    data = page(gate=gate_report()).data
    slow, size = data["gate-1"]["data"], data["gate-6"]["data"]

    assert (slow["fails"], slow["bound"], slow["same"], slow["control"]) == (
        "above",
        1.05,
        1.0,
        [0.985, 1.018],
    )
    assert slow["domain"][0] < 0.985
    assert slow["domain"][1] > 1.25
    assert (size["bound"], size["low"], size["high"]) == (4.0, 3.4, 3.4)


def test_an_interval_without_end_is_told_and_not_drawn(page: Any) -> None:
    shown = page(gate=gate_report(outcomes=[outcome("kl_mean", 0.02, float("inf"), 1.0)]))

    assert "not drawn: not finite" in shown.text
    assert shown.data == {}


def test_generations_are_marked_from_where_they_part(tmp_path: Path) -> None:
    write_page(tmp_path / "x.html", title="t", gate=gate_report())
    text = (tmp_path / "x.html").read_text()

    assert "\n    if n &lt; <mark>2:\n        return n\n</mark>" in text
    assert "\n    if n &lt; <mark>1:\n        return 0\n    return</mark>" in text
    assert "all 4 tokens the same" in text
    assert text.count("<mark>") == 2


def test_several_packages_stand_side_by_side_first(page: Any) -> None:
    shown = page(*three_reports())
    text = shown.text[shown.text.rindex("a title") :]

    assert "3 packages side by side All 3 keep what their recipes promise." in text
    assert "Smallest weights: a-int4, 900 kB. Furthest from a bound: a-plain, 2 %." in text
    assert (
        text.index("Side by side") < text.index("What each pass did in each package") < text.index("Accuracy")
    )
    weights = next(one for one in shown.data.values() if one["kind"] == "bars")["data"]
    assert (weights["unit"], weights["best"]) == ("MB", 0)


def test_a_package_that_did_not_pass_is_in_the_sentence(page: Any) -> None:
    failed = report(out="b", closing=ClosingReport(verdict="failed", metrics=[comparison("decode", 0.2)]))

    assert "1 of 2 did not pass the closing check (b: failed)." in page(report(), failed).text


def test_a_graph_is_drawn_before_and_after_with_fused_parts_marked(page: Any) -> None:
    shown = page(report(views={"model": graph_view()}))
    (drawn,) = shown.graphs.values()
    before, after = ({one["id"]: one for one in drawn[side]["groups"]} for side in ("before", "after"))

    assert [one["fused"] for one in (before["attn/0"], after["attn/0"], before["embed"])] == [
        True,
        True,
        False,
    ]
    assert [one["alone"] for one in (before["masks"], after["head"], after["embed"])] == [True, True, False]
    assert after["attn/0"]["sub"] == "1 node · 90 kB"
    assert drawn["after"]["edges"][-1] == ["attn/1", "head"]


def test_a_node_says_what_it_stands_for_and_what_made_it(page: Any) -> None:
    (drawn,) = page(report(views={"model": graph_view()})).graphs.values()
    attention = drawn["after"]["groups"][1]

    assert attention["nodes"] == [["fused_0", "x::Attention", "fold:1"]]
    assert attention["origins"]["fold:1"] == {
        "did": "Gelu (proven)",
        "from": ["fused", "attn/0/1"],
        "more": 3,
        "through": ["grow:1 Gelu (proven)"],
    }


def test_parts_are_in_a_table_and_their_bytes_in_a_chart(page: Any) -> None:
    shown = page(report(views={"model": graph_view()}))
    bars = shown.data["run-1-model-parts-bytes"]["data"]

    assert "layer 0: attn fused 9 1 400 kB 90 kB 1 Add fold" in shown.text
    assert "masks 4 taken out" in shown.text
    assert [(bar["name"], bar["side"], bar["text"]) for bar in bars["rows"][:2]] == [
        ("attn", "before", "800 kB"),
        ("attn", "after", "180 kB"),
    ]


def test_time_is_shown_where_it_was_measured(page: Any) -> None:
    view = graph_view()
    for side, seconds in ((view.before, 0.004), (view.after, 0.001)):
        side.groups[1].seconds = seconds
    shown = page(report(views={"model": view}))

    assert shown.data["run-1-model-parts-time"]["data"]["unit"] == "ms"
    assert "time before" in shown.text
    assert "time before" not in page(report(views={"model": graph_view()})).text


def test_where_nodes_run(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", title="t", reports=[report(coverage={"model": coverage("Npu")})])
    text = Page(tmp_path / "page.html").text

    assert "3 of 4 nodes on Npu; the others take 20 % of the time; 2 values cross between providers" in text
    assert "2 copies, 5 % of the time" in text
    write_page(tmp_path / "page.html", title="t", reports=[report()])
    assert "Where nodes run" not in Page(tmp_path / "page.html").text
