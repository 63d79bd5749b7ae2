"""The summary: what it says, and that it fits a terminal of 80 columns."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from graphopt.report import (
    ClosingReport,
    EditReport,
    MetricReport,
    MissReport,
    PassReport,
    Report,
    Sizes,
    print_explanation,
    print_report,
)


def step(name: str, edits: int = 0, *, proof: str | None = None, **changes: Any) -> PassReport:
    applied = [
        EditReport(number=n + 1, identity=f"{name}:{n}", summary="s", outcome="applied", proof=proof)
        for n in range(edits)
    ]
    values: dict[str, Any] = {
        "step": name,
        "level": "improve",
        "contract": "exact",
        "edits": applied,
        "nodes_before": 1250,
        "nodes_after": 1250 - edits,
        "bytes_before": 22_800_000,
        "bytes_after": 22_800_000,
        "seconds": 0.25,
        "modified": edits > 0,
        "proved": "structure",
    }
    return PassReport(**(values | changes))


def comparison(case: str, value: float, **changes: Any) -> MetricReport:
    values: dict[str, Any] = {
        "case": case,
        "output": "logits",
        "metric": "kl_mean",
        "value": value,
        "bound": 0.02,
        "holds": value <= 0.02,
    }
    return MetricReport(**(values | changes))


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "graphopt": "0.1.0",
        "source": "tiny-coder",
        "out": "build/demo",
        "task": "text-generation",
        "family": "decoder",
        "target": "cpu",
        "recipe": "int4",
        "lossless": False,
        "verify": "structure",
        "closing": ClosingReport(
            verdict="passed",
            reference="PyTorch, fp32",
            metrics=[comparison("held-out text", 0.011), comparison("decode", 0.003)],
            seconds=12.3,
        ),
        "sizes": Sizes(
            source_weight_bytes=11_400_000, package_weight_bytes=3_510_000, package_bytes=3_900_000
        ),
        "passes": [
            step("upgrade"),
            step("fold-constants", 212),
            step("cse", 30, proof="duplicate"),
            step("raise-gelu"),
            step("quantize-weights", 43, nodes_after=1250, bytes_after=3_510_000),
        ],
        "seconds": {"export": 9.1, "passes": 9.3},
        "peak_memory": 1_210_000_000,
    }
    return Report(**(values | changes))


def printed(one: Report, *, installed: bool = True, width: int = 80) -> str:
    stream = io.StringIO()
    print_report(one, Console(file=stream, width=width, color_system=None), installed=installed)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_each_pass_says_what_it_did_cost_and_proved() -> None:
    text = printed(report())

    told = line(text, "fold-constants")
    assert " ".join(told.split()) == "fold-constants 212 1250 → 1038 22.8 MB 0.2 s structure"
    assert line(text, "cse").endswith("each edit")
    assert "22.8 → 3.51 MB" in line(text, "quantize-weights")


def test_passes_that_did_nothing_share_a_line() -> None:
    text = printed(report())

    assert "2 passes found nothing to do: upgrade, raise-gelu" in text
    assert text.count("raise-gelu") == 1


def test_a_pass_that_could_not_run_says_why() -> None:
    text = printed(report(passes=[step("raise-gelu", skipped="needs opset 20..")]))

    assert "raise-gelu did not run: needs opset 20.." in text


def test_refused_edits_are_told() -> None:
    refused = EditReport(number=1, identity="x", summary="s", outcome="refused")
    assert "refused" not in printed(report())
    assert "cse: 1 edit refused" in printed(
        report(passes=[step("cse").model_copy(update={"edits": [refused]})])
    )


def test_then_the_check_the_sizes_and_where_things_are() -> None:
    text = printed(report())

    assert "passed" in line(text, "closing check")
    assert "mean KL divergence 0.011 ≤ 0.02" in text
    assert "11.4 → 3.51 MB  (3.2x smaller)" in line(text, "size")
    assert line(text, "package").endswith("build/demo")
    assert line(text, "report").endswith("build/demo/report.html")


def test_a_failure_names_the_output_the_case_and_by_how_much() -> None:
    failed = ClosingReport(
        verdict="failed",
        reference="PyTorch, fp32",
        metrics=[comparison("prefill", 0.01), comparison("left-padded batch", 0.51)],
    )
    text = printed(report(closing=failed), installed=False)

    told = " ".join(text.split())
    assert "logits mean KL divergence 0.51 > 0.02 nats a token in left-padded batch" in told
    assert "not installed: nothing was written to build/demo" in text
    assert "report.html" not in text


def test_a_cosine_has_to_be_at_least_its_bound() -> None:
    low = comparison("text", 0.9, metric="cosine_min", bound=0.98, holds=False)
    text = printed(report(closing=ClosingReport(verdict="failed", metrics=[low])))

    assert "lowest cosine similarity 0.9 < 0.98" in text


def test_of_a_kv_cache_only_the_worst_is_shown() -> None:
    states = [
        comparison(
            "decode", 1e-7 * (n + 1), output=f"present.{n}.key", metric="scaled_difference", bound=1e-3
        )
        for n in range(9)
    ]
    text = printed(report(closing=ClosingReport(verdict="passed", metrics=states)))

    assert "present.8.key" in text
    assert text.count("present.") == 1


def test_an_inconclusive_check_says_why() -> None:
    text = printed(report(closing=ClosingReport(verdict="inconclusive", reason="no inputs are known")))

    assert "inconclusive" in line(text, "closing check")
    assert "no inputs are known" in text


def test_assumptions_and_notes_are_told() -> None:
    text = printed(report(assumptions={"dense": "no batch is padded"}, notes=["weights were bf16"]))

    assert line(text, "assumes").endswith("no batch is padded")
    assert line(text, "notes").endswith("weights were bf16")


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    long = step(
        "lower-a-pass-with-quite-a-long-name", 11_000, nodes_before=99_999, bytes_before=2_490_000_000
    )
    text = printed(
        report(passes=[long], source="an-organisation/a-model-with-a-rather-long-name"), width=width
    )

    assert max(map(len, text.splitlines())) <= width


def test_an_explanation_lists_near_misses_of_every_use_of_the_pass() -> None:
    misses = [MissReport(where="node_7", reason="a second consumer of Erf")]
    one = report(passes=[step("raise-gelu", near_misses=misses), step("cse"), step("raise-gelu#2", 1)])
    stream = io.StringIO()
    print_explanation(one, "raise-gelu", Console(file=stream, width=80, color_system=None))
    text = stream.getvalue()

    assert "raise-gelu: 0 edits applied, 1 near miss" in text
    assert "node_7" in text
    assert "a second consumer of Erf" in text
    assert "raise-gelu#2: 1 edit applied, 0 near misses" in text
    assert "cse" not in text


@pytest.mark.parametrize("value", [0.5, float("inf"), 1e-300])
def test_a_report_survives_the_disk(tmp_path: Any, value: float) -> None:
    one = report(closing=ClosingReport(verdict="failed", metrics=[comparison("decode", value)]))
    one.write(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text()

    assert Report.model_validate_json(text) == one
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
