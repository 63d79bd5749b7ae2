"""Processes of vision.py take turns, its tables say what was measured, and its goals are read from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from graphopt.metrics import Estimate
from tests._cache import ROOT

Script = Callable[[str], ModuleType]
NETS = ROOT / "benchmarks" / "vision_nets"
ANSWERS = """
import json, sys
print("a library says hello")
print(json.dumps({"versions": {"onnxruntime": "1.32.0"}}), flush=True)
for number, line in enumerate(sys.stdin):
    assert line != "2 0.1\\n" or sys.argv[1] != "fails", "no second thread"
    print(json.dumps({"ms": [float(sys.argv[1] == "slow") + 1, 2, 9], "cpu": 0.0}), flush=True)
"""


@pytest.mark.parametrize("name", ["glyphs", "scenes"])
def test_the_card_has_the_figures_of_the_training(name: str) -> None:
    facts = json.loads((NETS / name / "training.json").read_text())
    card = (NETS / name / "MODEL_CARD.md").read_text()

    for key in ("parameters", "steps", "trained_on", "heldout"):
        assert f"{facts[key]:,}" in card, key
    measure = "heldout_top1_percent" if name == "glyphs" else "heldout_map_percent"
    for key in (measure, "minutes", "python", "torch", "numpy", "pillow"):
        assert str(facts[key]) in card, key


def test_the_classifier_is_neither_perfect_nor_bad_and_weights_are_small() -> None:
    facts = json.loads((NETS / "glyphs" / "training.json").read_text())

    assert 85 <= facts["heldout_top1_percent"] <= 97
    assert facts["heldout"] >= 2000
    assert sum(path.stat().st_size for path in NETS.glob("*/model.safetensors")) <= 12_000_000


def peers(script: Script, *names: str) -> list[Any]:
    return [script("_rounds").Peer(name, (sys.executable, "-c", ANSWERS, name)) for name in names]


def test_processes_answer_in_turn_and_one_that_fails_leaves_the_others(script: Script) -> None:
    found = script("_turned").turns(peers(script, "quick", "slow", "fails"), ["1 0.1", "2 0.1"], 3)

    assert found["1 0.1"]["quick"]["ms"] == 2
    assert found["1 0.1"]["slow"]["calls"] == 500
    assert found["2 0.1"]["quick"]["versions"] == {"onnxruntime": "1.32.0"}
    assert 0 <= found["2 0.1"]["quick"]["others"] <= 1
    assert "ms" in found["1 0.1"]["fails"]
    assert found["2 0.1"]["fails"] == {"error": "AssertionError: no second thread"}


def test_rounds_that_are_there_are_not_measured_again(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision, orders = script("vision"), []

    def turns(them: Any, asked: Any, repeats: int) -> Any:
        orders.append([peer.name for peer in them])
        one = {"ms": 1.0, "calls": 1e3, "others": 0.0, "versions": {}}
        return {line: {peer.name: one for peer in them} for line in asked}

    monkeypatch.setattr(vision, "turns", turns)
    kept, them = script("_rounds").Rounds(tmp_path / "vision.jsonl"), peers(script, "a", "b")
    cells = [{"net": "unet", "threads": threads} for threads in (1, 2)]

    assert vision.measure(kept, cells, them, 2, lambda: True)
    assert vision.measure(kept, cells, them, 3, lambda: True)
    assert not vision.measure(kept, cells, them, 4, lambda: False)
    assert orders == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert [len(kept.of(cell, them)) for cell in cells] == [3, 3]


SPEEDS = {
    "source fp32": 100.0,
    "graphopt int8": 300.0,
    "graphopt int8 again": 300.0,
    "onnxruntime static U8S8": 200.0,
    "onnxruntime static S8S8": 250.0,
    "OpenVINO int8": 400.0,
}


def speed_table(script: Script, cell: dict[str, Any], **other: float) -> Any:
    speeds = SPEEDS | {name.replace("_", " "): speed for name, speed in other.items()}
    results = {
        name: {"calls": n, "ms": 1000 / n, "others": 0.0, "versions": {}} for name, n in speeds.items()
    }
    made = dict.fromkeys(speeds, "")
    rounds = [script("_rounds").Round(cell, made, "2026-11-30T10:00:00", results)] * 2
    return script("vision").speed_table(cell, rounds)


def test_int8_is_compared_with_everyone_and_everyone_with_the_source(script: Script) -> None:
    table = speed_table(script, {"net": "unet", "threads": 1})

    row = table.row("OpenVINO int8")
    assert (row["ms"], row["int8_is"].value, row["over_source"].value) == (2.5, 0.75, 4.0)
    assert "int8_is" not in table.row("graphopt int8")
    assert table.row("graphopt int8 again")["int8_is"].value == 1
    assert table.rounds == 2


def figures(script: Script, folder: Path, *tables: Any) -> Any:
    page, results = script("_vision_page"), script("_results")
    if tables:
        results.record(folder / "vision.json", tables)
    return script("_page").Figures(folder, page.GOALS, page.FILES)


def goal_rows(script: Script, folder: Path, *tables: Any) -> list[list[str]]:
    text = script("_vision_page").goals(figures(script, folder, *tables))
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


def every_speed(script: Script, **last: float) -> list[Any]:
    page = script("_vision_page")
    cells = [{"net": net, "threads": threads} for net in page.SHAPES for threads in page.THREADS]
    return [speed_table(script, cell, **(last if cell is cells[-1] else {})) for cell in cells]


def test_goals_are_of_the_faster_static_and_the_slowest_net(script: Script, tmp_path: Path) -> None:
    rows = goal_rows(script, tmp_path, *every_speed(script, graphopt_int8=240.0))

    least, median, openvino, source = (row[-2:] for row in rows[:4])
    assert least == ["**0.96 [0.96, 0.96]** (yolo, 2 threads)", "missed"]
    assert median == ["1.20", "met"]
    assert openvino == ["**0.60 [0.60, 0.60]** (yolo, 2 threads)", "missed"]
    assert source[1] == "met"


def test_nothing_is_said_of_speed_while_a_net_is_missing(script: Script, tmp_path: Path) -> None:
    rows = goal_rows(script, tmp_path, *every_speed(script)[1:])

    assert {row[-1] for row in rows} == {"not measured"}


def accuracy(script: Script, int8: float, *points: float) -> Any:
    rows: list[dict[str, Any]] = [
        {"peer": "graphopt int8", "agreement_percent": Estimate(int8, int8 - 1, int8 + 0.2)}
    ]
    rows += [
        {"peer": f"onnxruntime static {n}", "int8_points": Estimate(value, value - 0.3, value + 0.3)}
        for n, value in enumerate(points)
    ]
    fields = {"date": "2026-11-30", "machine": "", "versions": {}, "command": ""}
    cell = {"net": "glyphs", "images": 2500}
    return script("_results").Table(name="accuracy", cell=cell, key="peer", rows=rows, **fields)


@pytest.mark.parametrize(
    ("int8", "points", "said"),
    [
        (99.6, (0.5, 0.1), [["99.60 [98.60, 99.80]", "aim met"], ["0.10 [-0.20, 0.40] (1)", "met"]]),
        (99.2, (-0.2, 0.1), [["99.20 [98.20, 99.40]", "met"], ["-0.20 [-0.50, 0.10] (0)", "met"]]),
        (
            98.5,
            (0.1, -0.5),
            [["**98.50 [97.50, 98.70]**", "missed"], ["**-0.50 [-0.80, -0.20]** (1)", "missed"]],
        ),
    ],
)
def test_accuracy_is_held_against_the_best_static(
    int8: float, points: tuple[float, ...], said: list[list[str]], script: Script, tmp_path: Path
) -> None:
    rows = goal_rows(script, tmp_path, accuracy(script, int8, *points))

    assert [row[-2:] for row in rows[5:7]] == said


def test_what_could_not_be_made_is_named(script: Script, tmp_path: Path) -> None:
    recipes = script("_vision_recipes")
    made = {
        recipes.SOURCE: recipes.Made(tmp_path, 4.0),
        recipes.INT8: recipes.Made(failed="cannot be made: so"),
    }

    found = figures(script, tmp_path, script("vision").size_table("gru", made))

    page = script("_vision_page")
    assert page.failures(found) == "- graphopt int8 of gru: cannot be made: so\n"
    assert "| 4.00 | - |" in page.sizes(found)
    assert page.speeds(found, 1) == "not measured"


def test_a_recipe_is_made_once_and_a_failure_is_told(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = script("_vision_recipes")
    makes = (
        "import os, sys; os.mkdir(sys.argv[1]); open(sys.argv[1] + '/model.onnx', 'wb').write(bytes(10**6))"
    )
    fails = "raise ValueError('no such operator')"
    source, other = (
        recipes.Recipe(
            slug, slug, "ort", lambda _, out, code=code: [sys.executable, "-c", code, str(out)], uses=()
        )
        for slug, code in (("exported", makes), ("other", fails))
    )
    monkeypatch.setattr(recipes, "SOURCE", source)

    first = source.made("unet", tmp_path)
    (tmp_path / "exported" / "model.onnx").write_bytes(b"kept")

    assert (first.path, first.megabytes) == (tmp_path / "exported" / "model.onnx", 1.0)
    assert source.made("unet", tmp_path).megabytes == 4e-6
    assert other.made("unet", tmp_path).failed == "cannot be made: ValueError: no such operator"
