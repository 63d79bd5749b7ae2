"""What scripts write has the rows that were measured and the columns that documents read."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

from benchmarks._results import RESULTS, load
from graphopt.metrics import Estimate

Script = Callable[[str], ModuleType]
SPEEDS = {"graphopt int4": 80.0, "llama.cpp Q4_0": 40.0, "graphopt int4 again": 80.0}


def rounds(script: Script, results: dict[str, dict[str, Any]], count: int = 2) -> list[Any]:
    made = dict.fromkeys(results, "")
    return [
        script("_rounds").Round({}, made, f"2026-11-2{n}T10:00:00", {p: dict(r) for p, r in results.items()})
        for n in range(count)
    ]


def decoded(speed: float) -> dict[str, Any]:
    return {
        "prefill": 10 * speed,
        "decode": speed,
        "load_s": 0.5,
        "peak_rss_mb": 900.0,
        "others": 0.02,
        "versions": {"onnxruntime": "1.32.0"},
    }


def columns(tables: list[Any], name: str) -> set[str]:
    return {key for table in tables if table.name == name for row in table.rows for key in row}


def committed(file: str, name: str) -> set[str]:
    return columns(load(RESULTS / f"{file}.json").tables, name)


def test_decode_keeps_ratios_load_memory_and_what_is_left_after_a_long_prompt(script: Script) -> None:
    short = rounds(script, {peer: decoded(speed) for peer, speed in SPEEDS.items()})
    long = rounds(script, {peer: decoded(speed / 4) for peer, speed in SPEEDS.items()})
    cell = {"shape": "llama-3.2-1b", "new": 64, "batch": 1}

    tables = script("decode").tables_of([(cell | {"prompt": 32}, short), (cell | {"prompt": 2048}, long)])

    speed, left = tables[0], tables[-1]
    row = speed.row("llama.cpp Q4_0")
    assert (row["prefill"], row["decode"], row["load_s"], row["peak_mb"]) == (400.0, 40.0, 0.5, 900.0)
    assert row["decode_ratio"].value == 2.0
    assert "decode_ratio" not in speed.row("graphopt int4")
    assert (speed.date, speed.rounds, speed.versions) == ("2026-11-21", 2, {"onnxruntime": "1.32.0"})
    assert speed.notes == ["Other processes took 2% of the processors meanwhile (at most 2%)."]
    assert left.cell == {"shape": "llama-3.2-1b", "batch": 1, "short": 32, "long": 2048}
    assert left.row("graphopt int4")["left"].value == 0.25
    assert columns(tables, "speed") == committed("decode", "speed")
    assert columns(tables, "left") == committed("decode", "left")


def test_equal_quality_is_compared_where_both_were_measured(script: Script) -> None:
    equal = script("_recipes").EQUAL.name
    both = SPEEDS | {equal: 60.0, "llama.cpp Q4_K_M": 30.0}
    found = [
        ({"shape": "a"}, rounds(script, {peer: decoded(speed) for peer, speed in SPEEDS.items()})),
        ({"shape": "b"}, rounds(script, {peer: decoded(speed) for peer, speed in both.items()})),
    ]

    (table,) = script("decode").equal_quality(found)

    row = table.row("llama.cpp Q4_K_M")
    assert table.cell == {"shape": "b"}
    assert (row["decode_ratio"].value, row["prefill_ratio"].value) == (2.0, 2.0)


def test_a_peer_that_failed_says_so_and_leaves_the_others(script: Script) -> None:
    results: dict[str, dict[str, Any]] = {peer: decoded(speed) for peer, speed in SPEEDS.items()}
    results["llama.cpp Q4_0"] = {"error": "out of memory"}

    table = script("decode").tables_of([({"shape": "llama-3.2-1b", "batch": 4}, rounds(script, results))])[0]

    assert table.row("llama.cpp Q4_0") == {"peer": "llama.cpp Q4_0", "failed": "failed: out of memory"}
    assert table.row("graphopt int4 again")["decode_ratio"].value == 1.0


def test_damage_is_kept_in_percent_and_nats(script: Script) -> None:
    known = {
        "graphopt int4": {
            "kl_mean": {"value": 0.05, "low": 0.04, "high": 0.06},
            "kl_p99": {"value": 0.2, "low": 0.1, "high": 0.3},
            "top1_agreement": {"value": 0.875, "low": 0.8, "high": 0.9},
        }
    }
    recipe = next(r for r in script("_recipes").RECIPES if r.name == "graphopt int4")

    table = script("_damage").damage_table([recipe], known, 512)

    assert table.cell == {"model": "tiny-coder", "tokens": 512}
    assert table.row("graphopt int4")["top1_percent"] == 87.5
    assert columns([table], "damage") == committed("decode", "damage")


def test_encoders_are_compared_with_ours_and_with_what_was_exported(script: Script) -> None:
    calls = {"graphopt int8": 8.0, "onnxruntime fp32, as exported": 4.0, "OpenVINO int8": 16.0}
    results = {peer: {"calls": n, "ms": 1000 / n, "others": 0.0, "versions": {}} for peer, n in calls.items()}
    cell = {"model": "minilm", "batch": 1, "tokens": 16, "ragged": False}

    tables = script("encoder").tables_of(
        [(cell, rounds(script, results))], {"minilm": {"OpenVINO int8": 0.9}}
    )

    row = tables[0].row("OpenVINO int8")
    assert (row["ms"], row["int8_is"].value, row["over_exported"].value) == (62.5, 0.5, 4.0)
    assert "over_exported" not in tables[0].row("onnxruntime fp32, as exported")
    assert tables[1].row("OpenVINO int8") == {"peer": "OpenVINO int8", "cosine": 0.9}
    assert columns(tables, "speed") == committed("encoder", "goals")
    assert columns(tables, "cosine") == committed("encoder", "cosine")


def test_a_roofline_is_bytes_over_time_over_what_memory_gives(script: Script) -> None:
    result = {
        "work": {"MatMulNBits": {"nodes": 2, "bytes": 4e8, "flops": 1e9, "prompt_flops": 4e11}},
        "turns": [{"read": 50.0, "token_ms": 10.0}],
        "read_median": 40.0,
        "read_fastest": 80.0,
        "token_ms": 12.5,
        "prompt_ms": 500.0,
        "peaks": {"fp32": 400.0, "int8": 1600.0},
        "token_ms_by_kind": {"MatMulNBits": 10.0, "Add": 0.5},
        "prompt_ms_by_kind": {"MatMulNBits": 400.0},
        "others": 0.0,
        "versions": {},
    }
    made = rounds(script, {"graphopt int4": result})
    cell = {"shape": "llama-3.2-1b", "prompt": 256, "new": 64, "label": "memory slow"}

    tables = script("roofline").cell_tables(cell, made)

    shares = {row["quantity"]: row["value"] for row in tables[0].rows if row["unit"] == "%"}
    assert {name: share.value for name, share in shares.items()} == {
        "reading_share": 80.0,  # 400 MB in 10 ms of 50 GB/s
        "reading_share_typical": 80.0,
        "reading_share_strictest": 40.0,
        "computing_share": 50.0,
    }
    operator = tables[1].row("MatMulNBits")
    assert (operator["reading_percent"], operator["gflops"], operator["computing_percent"]) == (
        80,
        1000,
        62.5,
    )
    assert "reading_percent" not in tables[1].row("Add")
    quantities = {row["quantity"] for row in load(RESULTS / "roofline.json").find("bounds").rows}
    assert quantities <= {row["quantity"] for row in tables[0].rows}
    assert columns(tables, "operators") == committed("roofline", "operators")
    assert "80.0" in script("roofline").cell_text(cell, made)


def test_what_verification_costs_is_beside_the_same_versions_off(script: Script, tmp_path: Any) -> None:
    seconds = {"off": [40.0, 44.0], "numeric": [52.0, 58.0], "off again": [41.0, 45.0]}
    seconds |= {"numeric before": [60.0, 62.0], "off before": [50.0, 50.0]}
    found = {way: [{"seconds": s, "peak_mb": 2000.0} for s in runs] for way, runs in seconds.items()}
    args = argparse.Namespace(source=tmp_path / "llama-3.2-1b", recipe="int4", rounds=2)

    tables = script("verify_cost").tables_of(args, found, Counter({"proven": 3, "within budget": 1}))

    above = {row["way"]: row.get("above_off") for row in tables[0].rows}
    assert above == {
        "off": None,
        "numeric": Estimate(13.0, 12.0, 14.0),
        "off again": Estimate(1.0, 1.0, 1.0),
        "numeric before": Estimate(11.0, 10.0, 12.0),
        "off before": None,
    }
    assert tables[1].row("proven")["edits"] == 3
    assert columns(tables, "seconds") == committed("verify_cost", "seconds")
    assert [table.cell for table in load(RESULTS / "verify_cost.json").tables] == [tables[0].cell] * 2


def test_rows_are_shown_as_they_are_kept(script: Script) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "code", "n": 3},
        {"text": "prose", "times": Estimate(1.0, 0.9, 1.1)},
    ]

    assert script("_rounds").table_of(rows) == (
        "| text | n | times |\n|---|---|---|\n| code | 3 | - |\n| prose | - | 1.00 [0.90, 1.10] |"
    )
