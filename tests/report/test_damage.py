"""What edits that give up accuracy did, by part of the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from graphopt.report import (
    ClosingReport,
    EditReport,
    GraphGroup,
    GraphSide,
    GraphView,
    PassReport,
    Report,
    Sizes,
    damage_by_layer,
)

Verdict = Literal["proven", "within budget"]


def edit(number: int, value: float, verdict: Verdict = "within budget") -> EditReport:
    return EditReport(
        number=number, identity="", summary="", outcome="applied", verdict=verdict, value=value, bound=12.0
    )


def report(edits: list[EditReport], groups: list[GraphGroup], contract: str = "lossy(sqnr >= 12)") -> Report:
    step = PassReport(
        step="shrink",
        level="compress",
        contract=contract,
        edits=edits,
        nodes_before=1,
        nodes_after=1,
        bytes_before=1,
        bytes_after=1,
        seconds=0,
        modified=True,
    )
    return Report(
        graphopt="0",
        source="",
        out="",
        task="",
        family=None,
        target="",
        recipe="",
        lossless=False,
        verify="numeric",
        passes=[step],
        closing=ClosingReport(verdict="passed"),
        sizes=Sizes(source_weight_bytes=1, package_weight_bytes=1, package_bytes=1),
        views={"model": GraphView(before=GraphSide(), after=GraphSide(groups=groups))},
    )


def group(id: str, layer: int | None, *edits: str) -> GraphGroup:
    return GraphGroup(id=id, title=id, layer=layer, nodes=1, edits=list(edits))


def test_the_worst_edit_of_a_part_counts() -> None:
    groups = [group("a", 0, "shrink:1", "other:3"), group("b", 1, "shrink:2", "shrink:3", "shrink:1")]
    found = damage_by_layer(report([edit(1, 30.0), edit(2, 20.0), edit(3, 15.0)], groups))
    assert [(d.group, d.layer, d.edits, d.value, d.metric) for d in found] == [
        ("a", 0, 1, 30.0, "sqnr"),
        ("b", 1, 2, 15.0, "sqnr"),
    ]
    assert found[1].strain > found[0].strain


def test_what_is_in_no_group_is_told_last() -> None:
    found = damage_by_layer(report([edit(1, 30.0), edit(2, 20.0)], [group("a", 0, "shrink:2")]))
    assert [(d.title, d.layer, d.value) for d in found] == [("a", 0, 20.0), ("elsewhere", None, 30.0)]


def test_what_is_proven_does_no_damage() -> None:
    assert damage_by_layer(report([edit(1, 0.0, "proven")], [group("a", 0, "shrink:1")])) == []
    assert damage_by_layer(report([edit(1, 30.0)], [], contract="exact")) == []


def test_of_the_embedded_model_every_layer_is_told(tiny_coder_at: Callable[[str], Path]) -> None:
    made = Report.model_validate_json((tiny_coder_at("int4") / "report.json").read_text())
    found = damage_by_layer(made)
    assert {d.layer for d in found} == {None, 0, 1, 2, 3, 4, 5}
    assert sum(d.edits for d in found) == 32
    assert all(d.group for d in found)


def test_a_report_with_the_seconds_of_its_nodes(tiny_coder_at: Callable[[str], Path]) -> None:
    made = Report.model_validate_json((tiny_coder_at("int4") / "report.json").read_text())
    attention = made.views["model"].after.group("model.layers/0/self_attn")
    assert attention is not None
    assert attention.seconds is None
    timed = made.timed({"model": {attention.nodes_listed[0].name: 2.0}}).views["model"]
    assert timed.before == made.views["model"].before
    assert [g.id for g in timed.after.groups if g.seconds] == [attention.id]
