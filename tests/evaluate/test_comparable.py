"""A reference or baseline that is another model is refused, in words that say which difference it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphopt import BadInput
from graphopt.evaluate._comparable import require_comparable
from graphopt.interface import Interface, TensorSpec
from tests.evaluate._sides import IDS, LOGITS, MASK, WORDS, Language, table, tokenizer_in


def side(folder: Path, *, words: list[str] | None = None, **interface: Any) -> Language:
    made = Language(tokenizer_in(folder, words) if words else tokenizer_in(folder), table())
    made.interface = Interface(
        interface.get("inputs", made.interface.inputs), interface.get("outputs", made.interface.outputs)
    )
    return made


def test_the_same_model_is(tmp_path: Path) -> None:
    for generates in (True, False):
        require_comparable(side(tmp_path / "a"), side(tmp_path / "b"), "w1 w2", generates=generates)


def test_another_tokenizer(tmp_path: Path) -> None:
    turned = [f"w{i}" for i in reversed(range(WORDS))]

    with pytest.raises(BadInput, match="b has another tokenizer than"):
        require_comparable(side(tmp_path / "a"), side(tmp_path / "b", words=turned), "w1 w2", generates=True)


def test_a_tokenizer_that_is_written_otherwise_is_the_same(tmp_path: Path) -> None:
    one, other = side(tmp_path / "a"), side(tmp_path / "b")
    file = tmp_path / "b" / "tokenizer.json"
    file.write_text(file.read_text() + "\n")

    require_comparable(one, other, "w1 w2", generates=True)


def test_another_vocabulary(tmp_path: Path) -> None:
    wider = TensorSpec("logits", "float32", ("batch", "sequence", WORDS + 4))

    with pytest.raises(BadInput, match=f"vocabulary of {WORDS + 4} tokens"):
        require_comparable(side(tmp_path / "a"), side(tmp_path / "b", outputs=(wider,)), "", generates=True)


def test_no_language_model(tmp_path: Path) -> None:
    other = side(tmp_path / "b", outputs=(TensorSpec("pooled", "float32", ("batch", 8)),))

    with pytest.raises(BadInput, match="gives no logits"):
        require_comparable(side(tmp_path / "a"), other, "", generates=True)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((IDS, MASK, TensorSpec("pixels", "float32", ())), "takes an input 'pixels'"),
        ((TensorSpec("input_ids", "int32", IDS.dims), MASK), "input_ids is int32 in"),
    ],
)
def test_other_inputs(tmp_path: Path, inputs: tuple[TensorSpec, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        require_comparable(side(tmp_path / "a"), side(tmp_path / "b", inputs=inputs), "", generates=False)


def test_no_output_in_common(tmp_path: Path) -> None:
    other = side(tmp_path / "b", outputs=(TensorSpec("boxes", "float32", ()),))

    with pytest.raises(BadInput, match="no output in common"):
        require_comparable(side(tmp_path / "a"), other, "", generates=False)


def test_an_output_that_one_has_not_is_for_measurements_to_find(tmp_path: Path) -> None:
    other = side(tmp_path / "b", outputs=(LOGITS, TensorSpec("more", "float32", ())))

    require_comparable(side(tmp_path / "a"), other, "", generates=False)
