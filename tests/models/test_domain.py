"""The families' legal calls are legal: masks, positions and padding belong together."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.families import Case
from graphopt.interface import Interface, TensorSpec
from graphopt.plugins import registry

PAD = 7
STATE = ("batch", 2, "past", 4)
DECODER = Interface(
    (
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "total")),
        TensorSpec("position_ids", "int64", ("batch", "sequence")),
        TensorSpec("past_key_values.0.key", "float32", STATE),
        TensorSpec("past_key_values.0.value", "float32", STATE),
    ),
    (
        TensorSpec("logits", "float32", ("batch", "sequence", 11)),
        TensorSpec("present.0.key", "float32", ("batch", 2, "total", 4)),
    ),
)
ENCODER = Interface(
    tuple(
        TensorSpec(name, "int64", ("batch", "sequence"))
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ),
    (
        TensorSpec("last_hidden_state", "float32", ("batch", "sequence", 8)),
        TensorSpec("pooler_output", "float32", ("batch", 8)),
        TensorSpec("start_logits", "float32", ("batch", "sequence")),
    ),
)


def cases(family: str, interface: Interface, seed: int = 0, **config: object) -> list[Case]:
    domain = registry.families()[family]().input_domain(
        interface, {"vocab_size": 11, "pad_token_id": PAD} | config
    )
    return list(domain.cases(np.random.default_rng(seed)))


@pytest.mark.parametrize("case", cases("causal-lm", DECODER), ids=lambda case: case.name)
def test_a_decoders_call(case: Case) -> None:
    ids, mask, positions = (case.feeds[n] for n in ("input_ids", "attention_mask", "position_ids"))
    batch, sequence = ids.shape
    past = case.feeds["past_key_values.0.key"].shape[2]
    assert ids.dtype == mask.dtype == positions.dtype == np.int64
    assert mask.shape == (batch, past + sequence)
    assert case.feeds["past_key_values.0.key"].shape == (batch, 2, past, 4)
    new = mask[:, past:]
    assert (ids[new == 0] == PAD).all()
    assert (ids[new == 1] != PAD).all()
    counted = np.cumsum(mask, axis=1)[:, past:] - 1
    assert (positions[new == 1] == counted[new == 1]).all()
    assert (positions[new == 0] == 0).all()
    assert (mask.sum(axis=1) > 0).all()
    assert (case.padding == "none") == bool(mask.all())
    for part in (mask[:, :past], new):
        if case.padding == "left":
            assert (np.diff(part, axis=1) >= 0).all()
        elif case.padding == "right":
            assert (np.diff(part, axis=1) <= 0).all()
    assert (np.broadcast_to(case.compare["logits"], (batch, sequence, 11))[..., 0] == (new == 1)).all()
    compared = np.broadcast_to(case.compare["present.0.key"], (batch, 2, past + sequence, 4))
    assert (compared[:, 1, :, 3] == (mask == 1)).all()


def test_a_decoders_calls_take_every_way() -> None:
    made = {case.name: case for case in cases("causal-lm", DECODER)}
    shapes = {
        name: (c.feeds["input_ids"].shape, c.feeds["attention_mask"].shape[1]) for name, c in made.items()
    }
    assert any(total == s for (_, s), total in shapes.values())
    assert any(total > s > 1 for (_, s), total in shapes.values())
    assert any(total > s == 1 for (_, s), total in shapes.values())
    assert {c.padding for c in made.values() if c.feeds["input_ids"].shape == (3, 9)} == {"left", "right"}
    assert made["decode-right-padded"].feeds["attention_mask"][0].tolist() == [1] * 4 + [0] * 9 + [1]


STATEFUL = Interface(
    (
        *DECODER.inputs,
        TensorSpec("past_key_values.1.recurrent_state", "float32", ("batch", 2, 4, 3)),
        TensorSpec("past_key_values.2.indexer_key", "float32", ("batch", "past", 5)),
    ),
    (
        *DECODER.outputs,
        TensorSpec("present.1.recurrent_state", "float32", ("batch", 2, 4, 3)),
        TensorSpec("present.2.indexer_key", "float32", ("batch", "total", 5)),
    ),
)


@pytest.mark.parametrize("case", cases("causal-lm", STATEFUL), ids=lambda case: case.name)
def test_a_state_of_one_size(case: Case) -> None:
    state, mask = case.feeds["past_key_values.1.recurrent_state"], case.feeds["attention_mask"]
    assert state.shape == (len(mask), 2, 4, 3)
    assert case.padding != "right"
    assert state.any() == (mask.shape[1] > case.feeds["input_ids"].shape[1])
    assert np.broadcast_to(case.compare["present.1.recurrent_state"], state.shape).all()
    keys = case.compare["present.2.indexer_key"]
    assert keys.shape == (*mask.shape, 1)
    assert (keys[..., 0] == (mask == 1)).all()


def test_the_calls_with_such_a_state_are_the_others_without_right_padding() -> None:
    names = {case.name for case in cases("causal-lm", DECODER)}
    assert names - {c.name for c in cases("causal-lm", STATEFUL)} == {
        "prefill-right-padded",
        "decode-right-padded",
    }


def test_an_input_the_graph_lacks_is_not_fed() -> None:
    alibi = Interface(tuple(s for s in DECODER.inputs if s.name != "position_ids"), DECODER.outputs)
    assert all(case.feeds.keys() == {s.name for s in alibi.inputs} for case in cases("causal-lm", alibi))


@pytest.mark.parametrize("case", cases("encoder", ENCODER, type_vocab_size=2), ids=lambda case: case.name)
def test_an_encoders_call(case: Case) -> None:
    ids, mask, segments = (case.feeds[n] for n in ("input_ids", "attention_mask", "token_type_ids"))
    assert ids.shape == mask.shape == segments.shape
    assert (ids[mask == 0] == PAD).all()
    assert (ids[mask == 1] != PAD).all()
    assert set(np.unique(segments)) <= {0, 1}
    assert (np.broadcast_to(case.compare["last_hidden_state"], (*mask.shape, 8))[..., 0] == (mask == 1)).all()
    assert (case.compare["start_logits"] == (mask == 1)).all()
    assert (case.compare["pooler_output"][:, 0] == (mask[:, 0] == 1)).all()


def test_segments_are_told_apart_where_the_model_does() -> None:
    assert any(case.feeds["token_type_ids"].any() for case in cases("encoder", ENCODER, type_vocab_size=2))
    assert not any(
        case.feeds["token_type_ids"].any() for case in cases("encoder", ENCODER, type_vocab_size=1)
    )


@pytest.mark.parametrize(("family", "interface"), [("causal-lm", DECODER), ("encoder", ENCODER)])
def test_calls_depend_on_the_generator_alone(family: str, interface: Interface) -> None:
    def feeds(seed: int) -> list[np.ndarray]:
        return [array for case in cases(family, interface, seed) for array in case.feeds.values()]

    assert all(np.array_equal(a, b) for a, b in zip(feeds(1), feeds(1), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(feeds(1), feeds(2), strict=True))


PAIRS = Interface(
    (
        TensorSpec("pixel_values", "float32", ("images", 3, 4, 6)),
        TensorSpec("input_ids", "int64", ("texts", "sequence")),
        TensorSpec("attention_mask", "int64", ("texts", "sequence")),
    ),
    (TensorSpec("logits_per_image", "float32", ("images", "texts")),),
)


@pytest.mark.parametrize("end", [3, 2])
def test_texts_beside_images_end_where_they_are_read(end: int) -> None:
    domain = registry.families()["image-text"]().input_domain(
        PAIRS, {"vocab_size": 11, "pad_token_id": PAD, "eos_token_id": end, "max_position_embeddings": 16}
    )
    rng = np.random.default_rng(0)
    made = [*domain.cases(rng), *domain.edges(rng), *domain.longer(rng, 16)]
    assert not list(domain.longer(rng, 17))
    for case in made:
        ids, mask = case.feeds["input_ids"], case.feeds["attention_mask"]
        assert (np.diff(mask, axis=1) <= 0).all()
        assert (ids[mask == 0] == PAD).all()
        last = ids[np.arange(len(ids)), mask.sum(axis=1) - 1]
        assert (last == (end if end != 2 else 10)).all()  # 2 stands for the largest token
        assert case.feeds["pixel_values"].shape[1:] == (3, 4, 6)
        assert case.compare["logits_per_image"].all()
    assert {len(case.feeds["pixel_values"]) for case in made} == {1, 2, 3}
