"""An id for which a table has no row is refused: kernels of packed tables give zeros for it, silently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphopt import BadInput, Package
from graphopt.evaluate import session_logits, whole_sequence
from graphopt.families import Assumption
from graphopt.runtime import session_specs


@pytest.fixture
def package(tiny_coder_at: Callable[[str], Path]) -> Package:
    return Package.load(tiny_coder_at("int4"))


def test_packages_with_packed_tables_say_how_many_rows_there_are(package: Package) -> None:
    assert [a.below for a in package.assumptions() if a.below] == [{"input_ids": 4096}]


@pytest.mark.parametrize("way", ["run", "ready", "as_source"])
def test_calls_with_an_id_beyond_the_table_are_refused(package: Package, way: str) -> None:
    model = getattr(package, way) if way == "run" else getattr(package, way)()
    session = package.session()
    inputs = [*session.get_inputs(), *(session.get_overridable_initializers() if way != "as_source" else [])]

    def called(token: int) -> object:
        return model(whole_sequence(session_specs(inputs), np.asarray([5, token, 7])))

    for token in (4095, 0, -1, -4096):
        assert called(token)
    for token in (4096, 10**9, -4097):
        with pytest.raises(BadInput, match=f"has no row for {token} in input_ids"):
            called(token)


def test_a_text_with_such_an_id_is_refused(package: Package, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the text has token 4096, and the model has 4096 tokens"):
        session_logits(package.session())(np.asarray([5, 4096, 7]))

    copy = Path(shutil.copytree(package.path, tmp_path / "package"))
    data = json.loads((copy / "tokenizer.json").read_text())
    data["added_tokens"].append(data["added_tokens"][0] | {"id": 4096, "content": "<|more|>"})
    (copy / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "text.txt").write_text("one <|more|> two")
    with pytest.raises(BadInput, match="the text has token 4096"):
        Package.load(copy).validate(package.path, data=tmp_path / "text.txt", tokens=32)


def test_bounds_are_of_inputs_that_are_there() -> None:
    bounded = Assumption("ids", "below 4", below={"ids": 4, "absent": 2})

    assert bounded.refused({"ids": np.asarray([[3, -4]]), "other": np.asarray([9])}) is None
    assert bounded.refused({"ids": np.asarray([[3, 4]])}) == ("ids", 4)
    assert bounded.refused({"ids": np.asarray([], np.int64)}) is None
