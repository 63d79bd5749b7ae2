"""SPEC.toml: what it says, and what is wrong with it, by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt import BadInput
from graphopt.sweep import Spec

GOOD = """\
source = "tiny-coder"
recipe = ["int8", "lossless"]
objective = ["kl_mean", "package_bytes"]
budget = "kl_mean=0.01"
trials = 20

[options]
"quantize-weights.block_size" = [32, 64]
"quantize-weights.bits" = { low = 4, high = 8, step = 4 }

[measure]
tokens = 512
"""


def read(tmp_path: Path, text: str) -> Spec:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return Spec.read(path)


def test_a_sweep_says_what_is_tried_and_measured(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)

    assert spec.source == ("tiny-coder",)
    assert spec.measured().metrics == ("kl_mean", "package_bytes")
    assert spec.measured().tokens == 512
    assert set(spec.ranges("int8")) == set(spec.options)
    assert spec.ranges("lossless") == {}
    assert [tuple(point.values())[1:] for point in spec.grid()] == [
        ("int8", 32, 4),
        ("int8", 32, 8),
        ("int8", 64, 4),
        ("int8", 64, 8),
        ("lossless",),
    ]


def test_the_recipe_of_a_trial_is_held_to_the_budget(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD)

    made = spec.configured("int8", {"quantize-weights.block_size": 64})
    assert made.budget.kl_mean == 0.01
    assert [s.options["block_size"] for s in made.steps if s.name == "quantize-weights"] == ["64"]
    assert spec.configured("lossless", {}).budget.lossless


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"int8", "lossless"', '"int8", "int5"', ":2: unknown recipe 'int5'"),
        ('"int8", "lossless"', '"int8", "mine.toml"', ":2: recipe file mine.toml does not exist"),
        ('"int8", "lossless"', "", ":2: recipe: "),
        ('"kl_mean", ', '"kl_meam", ', ":3: there is no metric 'kl_meam'\n  Did you mean 'kl_mean'?"),
        ('"kl_mean", ', '"task_accuracy", ', ":3: trials do not measure 'task_accuracy'"),
        ('"kl_mean", ', '"package_bytes", ', ":3: a metric is there twice"),
        ("kl_mean=0.01", "kl_mean=-1", ":4: budget"),
        ("trials = 20", "trails = 20", ":5: there is no 'trails' here\n  Did you mean 'trials'?"),
        ("trials = 20", "trials = -1", ":5: trials: "),
        ("trials = 20", "", ":1: trials = N is missing"),
        ("[32, 64]", "[]", ":8: options.quantize-weights.block_size: there is nothing to choose from"),
        ("[32, 64]", "[32, 32]", ":8: options.quantize-weights.block_size: a value is there twice"),
        ("[32, 64]", "[32, 33]", ":8: "),
        ('weights.block_size"', 'weight.block_size"', ":8: no recipe uses a pass 'quantize-weight'"),
        ('"quantize-weights.block_size"', '"block_size"', ":8: 'block_size' is not PASS[#N].OPTION"),
        ('weights.bits"', 'weights.bitz"', ":9: "),
        (
            "low = 4, high = 8",
            "low = 8, high = 4",
            ": there is nothing from 8 to 4",
        ),
        ("low = 4, high = 8", "low = 4", ":9: options.quantize-weights.bits: it needs a choice, or low and"),
        (
            "low = 4, high = 8, step = 4",
            "low = 0, high = 8, log = true",
            ":9: options.quantize-weights.bits: ",
        ),
        ("low = 4, ", "lov = 4, ", ":9: there is no 'lov' here\n  Did you mean 'low'?"),
        ("tokens = 512", "token = 512", ":12: there is no 'token' here\n  Did you mean 'tokens'?"),
        ("tokens = 512", "tokens = 1", ":12: measure.tokens: "),
        ("tokens = 512", 'data = "no.txt"', ":12: there is no no.txt to measure on"),
        ("trials = 20", 'trials = 20\ncalibration = "no.txt"', ":6: there is no no.txt to calibrate on"),
        ("trials = 20", 'trials = "many"', ":5: trials: "),
        ("low = 4, high = 8", 'low = "a", high = 8', ":9: options.quantize-weights.bits.low"),
        ("trials = 20", 'trials = 20\nsampler = "best"', ":6: sampler: "),
        ("trials = 20", "trials = 20\nseed = -1", ":6: seed: "),
        ("trials = 20", 'trials = 20\ntarget = "gpu9"', ":6: "),
        ("tiny-coder", "tiny-codr", ":1: "),
        ("tokens = 512", "tokens = ", "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(BadInput) as refused:
        read(tmp_path, GOOD.replace(old, new, 1))

    assert said in str(refused.value)


def test_a_grid_needs_lists(tmp_path: Path) -> None:
    text = GOOD.replace("trials = 20", 'sampler = "grid"').replace(
        '"quantize-weights.bits" = { low = 4, high = 8, step = 4 }',
        '"plan-bits.damage" = { low = 0.1, high = 0.5 }',
    )
    with pytest.raises(BadInput, match=r":9: "):
        read(tmp_path, text)
