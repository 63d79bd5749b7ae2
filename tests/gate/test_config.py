"""Gates as they are written: in words, in files, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from graphopt import BadInput
from graphopt.gate import config_schema, parse_gate, read_gates
from graphopt.metrics import METRICS


@pytest.mark.parametrize(
    ("text", "bound", "relative"),
    [
        ("kl_mean <= 0.02", 0.02, False),
        ("kl_mean<=2e-2", 0.02, False),
        ("kl_mean <= 0.02nats", 0.02, False),
        ("ttft <= 800ms", 0.8, False),
        ("ttft <= 0.8s", 0.8, False),
        ("load_time <= 1.5 min", 90, False),
        ("package_bytes <= 1.2GB", 1.2e9, False),
        ("peak_memory <= 2GiB", 2**31, False),
        ("top1_agreement >= 95%", 0.95, False),
        ("tpot <= 1.05x", 1.05, True),
        ("decode_tokens_per_second >= 40tok/s", 40, False),
        ("interface_changes == 0", 0, False),
    ],
)
def test_a_bound_is_in_the_unit_of_its_metric(text: str, bound: float, relative: bool) -> None:
    gate = parse_gate(text)

    assert gate.bound == pytest.approx(bound)
    assert gate.relative is relative


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kl_maen <= 0.02", "Did you mean 'kl_mean'?"),
        ("kl_mean => 0.02", "There are <=, >=, <, >, =="),
        ("kl_mean != 0.02", "There are <=, >=, <, >, =="),
        ("ttft <= 800msec", "Did you mean 'ms'?"),
        ("ttft <= 800MB", "ttft is not in 'MB'"),
        ("kl_mean 0.02", "is not a bound of kl_mean|is not a gate"),
        ("kl_mean", "is not a gate"),
        ("", "is not a gate"),
        ("kl_mean <= much", "is not a bound of kl_mean"),
        ("kl_mean <= 1e999", "too large a number"),
        ("kl_mean >= 0.02", "smaller is better"),
        ("top1_agreement <= 0.9", "Did you mean '>='?"),
        ("tpot <= 0x", "more than 0"),
        ("tpot <= 1.05", "or 1.05x"),
        ("package_bytes <= 2", "Write 2B"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_name(text: str, message: str) -> None:
    with pytest.raises(BadInput, match="(?s).*(" + message.replace("?", r"\?") + ")"):
        parse_gate(text)


def test_a_bound_holds_on_its_side_and_nan_on_none() -> None:
    assert parse_gate("kl_mean <= 0.02").holds(0.02)
    assert not parse_gate("kl_mean < 0.02").holds(0.02)
    assert not parse_gate("kl_mean <= 0.02").holds(float("nan"))


def written(folder: Path, text: str, name: str = "graphopt.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_gates_of_a_file_know_their_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[other]\nkl_mean = 1\n\n[gates]\n# why\nkl_mean = "<= 0.02"\npackage_bytes = ["<= 1x", "<= 2GB"]\n'
        '[gates.options]\nmax_time = "2min"\ndata = "text.jsonl"\n',
    )
    found = read_gates(path, (), tmp_path)

    assert [(g.text, g.where) for g in found.gates] == [
        ("kl_mean <= 0.02", "graphopt.toml:6"),
        ("package_bytes <= 1x", "graphopt.toml:7"),
        ("package_bytes <= 2GB", "graphopt.toml:7"),
    ]
    assert found.settings.max_time == 120
    assert found.settings.data == tmp_path / "text.jsonl"


def test_pyproject_is_read_where_there_is_no_graphopt_toml(tmp_path: Path) -> None:
    written(tmp_path, '[project]\nname = "x"\n[tool.graphopt.gates]\ntpot = "<= 1.05x"\n', "pyproject.toml")
    (gate,) = read_gates(None, (), tmp_path).gates
    assert gate.where == "pyproject.toml:4"

    written(tmp_path, '[gates]\ntpot = "<= 1.2x"\n')
    (gate,) = read_gates(None, (), tmp_path).gates
    assert gate.bound == 1.2


def test_a_graphopt_toml_that_is_there_for_plugins_hides_no_gates(tmp_path: Path) -> None:
    written(tmp_path, '[plugins]\nallow = ["mine"]\n')
    assert read_gates(None, (), tmp_path).gates == ()

    written(tmp_path, '[tool.graphopt.gates]\ntpot = "<= 1.05x"\n', "pyproject.toml")
    assert len(read_gates(None, (), tmp_path).gates) == 1


def test_a_gate_on_the_command_line_takes_the_place_of_the_files(tmp_path: Path) -> None:
    written(tmp_path, '[gates]\nkl_mean = "<= 0.02"\nkl_p99 = "<= 0.3"\n')
    found = read_gates(None, ["kl_mean <= 0.05"], tmp_path, tokens=99, batch=None)

    assert {(g.metric, g.bound, g.where) for g in found.gates} == {
        ("kl_p99", 0.3, "graphopt.toml:3"),
        ("kl_mean", 0.05, "command line"),
    }
    assert found.settings.tokens == 99
    assert found.settings.batch == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gates]\nkl_mean = 0.02\n", 'Write kl_mean = "<= 0.02"'),
        ('[gates]\nkl_men = "<= 0.02"\n', "Did you mean 'kl_mean'"),
        ('[gates]\nkl_mean = ["<= 0.02", 3]\n', "has no operator"),
        ("[gates.options]\ntoken = 5\n", "Did you mean 'tokens'"),
        ("[gates.options]\ntokens = 1\n", "gates.options.tokens"),
        ('[gates.options]\nmax_time = "2 weeks"\n', "not a duration"),
        ("[gates\n", "not TOML"),
        ("gates = 3\n", "not a table"),
        (
            '[gates]\nnodes = ["== 3", "== 4"]\n',
            "no package can pass nodes == 3 .graphopt.toml:2. and nodes == 4",
        ),
        ("[passes]\n", "has no .gates."),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match="(?s).*" + message):
        read_gates(written(tmp_path, text), (), tmp_path)


def test_gates_of_one_metric_on_two_sides_are_no_contradiction(tmp_path: Path) -> None:
    assert len(read_gates(None, ["nodes <= 5", "nodes == 5", "nodes <= 1.0x"], tmp_path).gates) == 3


def test_the_schema_takes_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid

    assert valid(
        {"gates": {"kl_mean": "<= 0.02", "tpot": ["<= 1.05x", "<=20ms"], "options": {"max_time": "2min"}}}
    )
    assert valid({"gates": {"top1_agreement": ">= 95%"}})
    for gates in (
        {"kl_men": "<= 0.02"},
        {"kl_mean": 0.02},
        {"kl_mean": ">= 0.02"},
        {"ttft": "<= 3MB"},
        {"ttft": "<= 3"},
        {"options": {"token": 5}},
    ):
        assert not valid({"gates": gates}), gates
        with pytest.raises(BadInput):
            read_gates(written(tmp_path, _toml(gates)), (), tmp_path)


def _toml(gates: dict[str, object]) -> str:
    options = gates.get("options")
    if isinstance(options, dict):
        return "[gates.options]\n" + "".join(f"{k} = {v!r}\n" for k, v in options.items())
    return "[gates]\n" + "".join(f"{k} = {v!r}\n" for k, v in gates.items())


def test_every_metric_can_be_a_gate() -> None:
    for key, metric in METRICS.items():
        assert parse_gate(f"{key} {'>=' if metric.better == 'larger' else '<='} 1x").metric == key
