"""graphopt plan, as a user meets it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import onnx
import onnx.parser
import pytest

from graphopt.cli import main
from tests.planner._machines import machine


@pytest.fixture
def box(tmp_path: Path) -> str:
    path = tmp_path / "box.json"
    path.write_text(machine().model_dump_json(), encoding="utf-8")
    return str(path)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_a_plan_is_printed_and_written_as_a_recipe(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "planned.toml"
    assert run("llama-3.2-1b", "--machine", box, "--budget", "kl_mean=0.02", "-o", str(recipe)) == 0
    said = capsys.readouterr().out
    assert "mean KL divergence" in said
    assert "were not measured" in said
    written = tomllib.loads(recipe.read_text(encoding="utf-8"))
    assert written["budget"]["kl_mean"] == 0.02
    assert [step["budget"] for step in written["pass"] if "budget" in step] == ["kl_mean=0.02"]


def test_json_has_what_was_weighed(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama-3.2-1b", "--machine", box, "--price", "2", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"]["metrics"]["usd_per_mtok"]["value"] > 0
    assert found["machines"][0]["kind"] == "cited"
    assert {point["reason"] for point in found["pareto"]} >= {"chosen"}


def test_no_feasible_plan_is_exit_code_1_and_json_tells_the_nearest(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.json"
    assert run("llama-3.2-1b", "--machine", box, "--budget", "tpot=1ms", "--json", str(file)) == 1
    assert "no plan keeps tpot=1ms" in capsys.readouterr().err
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["chosen"] is None
    assert found["nearest"]["broken"] == ["tpot=1ms"]


def test_a_tiny_model_is_planned_for_from_its_config_alone(box: str) -> None:
    assert run("tiny-coder", "--machine", box, "-q") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["llama-3.2-1b", "--budget", "ttft=800"], "800 of what"),
        (["llama-3.2-1b", "--budget", "tpott=8ms"], "Did you mean 'tpot'"),
        (["llama-3.2-1b", "--budget", "tpot=8ms", "--budget", "tpot=9ms"], "there is 'tpot=8ms' already"),
        (["llama-3.2-1b", "--minimize", "byte"], "Did you mean 'bytes'"),
        (["llama-3.2-1b", "--price", "-1"], "a price of -1 dollars is none"),
        (["llama-3.2-1b", "--api-price", "-3,60"], "an API price of -3 dollars is none"),
        (["llama-3.2-1b", "--api-price", "3"], "is not IN,OUT"),
        (["llama-3.2-1b", "--utilization", "0"], "not above 0 and at most 1"),
        (["llama-3.2-1b", "--utilization", "1.5"], "not above 0 and at most 1"),
        (["llama-3.2-1b", "--batch", "0"], "at least 1"),
        (["llama-3.2-1b", "--threads", "two"], "is no number"),
        (["llama-3.2-1b", "--recipe", "int5"], "int5"),
        (["llama-3.1-8x", "--minimize", "tpot"], "llama-3.1-8b"),
        (["llama-3.2-1b", "--minimise", "tpot"], "--minimize"),
        (["llama-3.2-1b", "llama-3.1-8b"], "compared on --machines"),
        (["llama-3.2-1b", "--prompt-tokens", "131072"], "made for 131072 tokens"),
        (["llama-3.2-1b", "--target", "cpu"], "none of those that are asked about is `here`"),
        (["llama-3.2-1b", "--machines", "here"], "exclude each other"),
        (["llama-3.2-1b", "--ray", "local"], "llama-3.2-1b is a shape without weights"),
        (["tiny-coder", "--ray", "local", "--recipe", "fp16"], "no recipe shares out bits: fp16"),
    ],
)
def test_what_is_wrong_is_said(
    box: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--machine", box) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("price", "said"), [("-2", "a price of -2 dollars is none"), ("cheap", "'cheap' is no price")]
)
def test_a_machine_has_a_price_or_says_so(
    box: str, price: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("llama-3.2-1b", "--machine", f"{box}@{price}") == 2
    assert said in capsys.readouterr().err


def test_a_profile_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "later.json"
    path.write_text(machine().model_dump_json().replace('"version":1', '"version":7'), encoding="utf-8")
    assert run("llama-3.2-1b", "--machine", str(path)) == 2
    assert "version 7" in capsys.readouterr().err


def test_a_machine_that_was_not_measured_is_asked_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", str(tmp_path))
    assert run("llama-3.2-1b") == 2
    assert "graphopt targets profile" in capsys.readouterr().err


def test_hosting_is_compared_over_machines_and_sizes(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.json"
    small.write_text(machine("small", memory=1e9).model_dump_json(), encoding="utf-8")
    file = tmp_path / "hosting.json"
    words = ["--machines", f"{box},{small}@0.5", "--api-price", "30,60", "--json", str(file)]
    assert run("llama-3.2-1b", "llama-3.1-8b", *words) == 0
    said = capsys.readouterr().out
    assert "break-even" in said
    found = json.loads(file.read_text(encoding="utf-8"))["hosted"]
    assert [(one["model"], one["machine"]) for one in found] == [
        (model, name) for model in ("llama-3.2-1b", "llama-3.1-8b") for name in ("box", "small")
    ]
    first = found[0]
    assert [area["name"] for area in first["areas"]] == ["compression", "software stack", "hardware"]
    factors = [area["times"] for area in first["areas"]]
    assert factors[2] == 1
    whole = first["areas"][0]["before"]["value"] / first["plan"]["metrics"]["usd_per_mtok"]["value"]
    assert factors[0] * factors[1] == pytest.approx(whole)
    assert min(factors[:2]) > 1
    assert "the memory of small" in next(
        one["refused"] for one in found if (one["model"], one["machine"]) == ("llama-3.1-8b", "small")
    )


def test_a_machine_may_cost_nothing(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama-3.2-1b", "--machines", f"{box}@0", "--api-price", "30,60") == 0
    assert "0%" in capsys.readouterr().out


def test_what_an_area_brings_stands_below_its_name(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.json"  # holds no floats, so nothing is known of what compression brings there
    small.write_text(machine("small", memory=3e9).model_dump_json(), encoding="utf-8")
    file = tmp_path / "hosting.json"
    assert run("llama-3.2-1b", "--machines", f"{small},{box}", "--json", str(file)) == 0
    found = json.loads(file.read_text(encoding="utf-8"))["hosted"]
    assert [len(one["areas"]) for one in found] == [2, 3]
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if "times cheaper by" in line)
    head, rows = lines[start], lines[start + 2 : start + 4]
    for row, one in zip(rows, found, strict=True):
        for area in one["areas"]:
            end = head.index(area["name"]) + len(area["name"])
            assert row[:end].endswith(f" {area['times']:.3g}")


def test_machines_that_were_measured_are_called_like_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("left.json", "me@right.json")]
    for file in files:  # a profile that was measured is called like its target
        file.write_text(machine("cpu").model_dump_json(), encoding="utf-8")
    named = f"{files[0]}@2,{files[1]}"
    assert run("llama-3.2-1b", "--machines", named, "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)["hosted"]
    assert [one["machine"] for one in found] == ["left", "me@right"]


def test_threads_are_those_that_something_is_known_of(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("llama-3.2-1b", "--machine", "h200", "--threads", "4") == 0
    plan = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(" plan "))
    assert plan.strip().endswith("on h200")
    assert run("llama-3.2-1b", "--machine", box, "--threads", "1,64", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["chosen"]["threads"] == 1


def test_what_is_shown_of_a_plan(box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    words = ["--machine", box, "--utilization", "0.5", "--budget", "tpot=5s", "--json", str(file)]
    assert run("llama-3.2-1b", *words) == 0
    said = capsys.readouterr().out
    assert "a request waits" in said
    assert json.loads(file.read_text(encoding="utf-8"))["chosen"]["queue"]["wait"] > 0
    assert " lossless " in said
    assert "0 x KL" not in said  # the chosen plan has no divergence at all
    assert "graphopt optimize" not in said  # of a shape nothing is made
    assert run("tiny-coder", "--machine", box) == 0
    said = capsys.readouterr().out
    assert "graphopt optimize tiny-coder --recipe" in said
    assert "e+0" not in said


def test_prices_are_compared_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "unpriced.json"
    path.write_text(machine(price=None).model_dump_json(), encoding="utf-8")
    assert run("llama-3.2-1b", "--machine", str(path), "--api-price", "30,60") == 2
    assert "needs to know what box costs an hour" in capsys.readouterr().err


def test_batches_are_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tiny-coder", "--batch", "1,4", "--verify", "1") == 2
    assert "one text at a time" in capsys.readouterr().err


def test_a_graph_that_writes_no_text_is_not_planned_for(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = (
        """<ir_version: 10, opset_import: ["" : 23]> net (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"""
    )
    onnx.save(onnx.parser.parse_model(net), tmp_path / "net.onnx")
    assert run(str(tmp_path / "net.onnx"), "--machine", box) == 2
    assert "has no cache of keys and values" in capsys.readouterr().err
