"""Which trials are suggested: the same whether a sweep was interrupted or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from graphopt import BadInput, EnvironmentProblem
from graphopt.sweep import Spec
from graphopt.sweep._study import Study, Suggested

OPTIONS: dict[str, Any] = {
    "quantize-weights.bits": {"choice": [4, 8]},
    "quantize-weights.block_size": {"low": 16, "high": 256, "log": True},
    "quantize-experts.damage": {"low": 0.1, "high": 0.9},
}


def spec(**changes: Any) -> Spec:
    said = {"source": "tiny-coder", "recipe": "int8", "objective": "kl_mean", "trials": 24, "at_once": 5}
    return Spec.model_validate({**said, "options": OPTIONS, **changes})


def outcome(values: Mapping[str, Any], objectives: int) -> list[float]:
    damage = 8 / values["quantize-weights.bits"] * math.log(values["quantize-weights.block_size"])
    return [damage + values["quantize-experts.damage"], 1 / damage][:objectives]


def tell(study: Study, one: Suggested, objectives: int = 1) -> None:
    values = outcome(one.values, objectives)
    study.tell(one.number, values, {"kl_mean": values[0] - 5}, {"values": dict(one.values)})


def finish(study: Study, objectives: int = 1) -> list[Mapping[str, Any]]:
    left = study.begun()
    while left := [*left, *iter(study.suggest, None)]:
        tell(study, left.pop(), objectives)  # the last is done first
    return [said["values"] for _, said in sorted(study.told().items())]


@pytest.mark.parametrize("objectives", [["kl_mean"], ["kl_mean", "package_bytes"]])
@pytest.mark.parametrize("sampler", ["auto", "random"])
def test_an_interrupted_sweep_goes_on_as_it_would_have(
    tmp_path: Path, objectives: list[str], sampler: str
) -> None:
    asked = spec(objective=objectives, sampler=sampler)
    undisturbed = finish(Study(asked, None), len(objectives))
    assert len(undisturbed) == 24

    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    study = Study(asked, storage)
    begun = list(iter(study.suggest, None))
    assert [one.number for one in begun] == [0, 1, 2, 3, 4]
    tell(study, begun[1], len(objectives))
    assert study.suggest() is None  # of the first nothing is known
    tell(study, begun[0], len(objectives))
    assert [one.number for one in iter(study.suggest, None)] == [5, 6]
    again = Study(asked, storage)
    assert [one.number for one in again.begun()] == [2, 3, 4, 5, 6]
    assert again.suggest() is None
    assert finish(Study(asked, storage), len(objectives)) == undisturbed


def test_what_was_found_before_is_used(tmp_path: Path) -> None:
    tried = finish(Study(spec(trials=60, at_once=1), None))
    drawn = finish(Study(spec(trials=60, at_once=1, sampler="random"), None))

    mean = [sum(outcome(values, 1)[0] for values in some[30:]) / 30 for some in (tried, drawn)]
    assert mean[0] < mean[1]


def test_a_journal_is_a_storage_and_more_trials_can_be_asked_for_later(tmp_path: Path) -> None:
    storage = str(tmp_path / "sweep.journal")
    first = finish(Study(spec(trials=10), storage))

    more = finish(Study(spec(trials=15), storage))
    assert (len(first), len(more), more[:10]) == (10, 15, first)


def test_what_failed_by_chance_is_begun_again(tmp_path: Path) -> None:
    asked, storage = spec(trials=3), f"sqlite:///{tmp_path / 'sweep.db'}"
    study = Study(asked, storage)
    for one in iter(study.suggest, None):
        study.tell(one.number, None, {}, None if one.number == 1 else {"values": dict(one.values)})
    assert study.suggest() is None  # and the storage hears of all

    again = Study(asked, storage)
    assert [one.number for one in again.begun()] == [1]
    assert sorted(again.told()) == [0, 2]


def test_another_sweep_in_the_same_storage_is_another(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    finish(Study(spec(trials=5), storage))

    assert Study(spec(trials=5, seed=1), storage).told() == {}


def test_a_grid_is_all_there_is() -> None:
    options = {
        "quantize-weights.bits": {"choice": [4, 8]},
        "quantize-weights.block_size": {"choice": [32, 64]},
    }
    study = Study(spec(sampler="grid", trials=0, options=options), None)
    found = []
    while (one := study.suggest()) is not None:
        found.append((one.values["quantize-weights.bits"], one.values["quantize-weights.block_size"]))
        study.tell(one.number, [1.0], {}, {"values": dict(one.values)})

    assert found == [(4, 32), (4, 64), (8, 32), (8, 64)]


@pytest.mark.parametrize(
    "storage", ["sqlite:////nowhere/at/all/sweep.db", "nothing://there", "mysql://nobody@localhost:1/none"]
)
def test_a_storage_that_cannot_be_opened_is_said(storage: str) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be opened"):
        Study(spec(), storage)


def test_a_journal_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        Study(spec(), str(tmp_path / "nowhere" / "sweep.journal"))
