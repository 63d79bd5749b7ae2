"""Evidence about models that generate no text: by output, over lines, and in padded batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from graphopt import BadInput
from graphopt.evaluate import ENCODER_METRICS
from graphopt.evaluate._calls import Call, text_feeds
from graphopt.evaluate._corpus import Window
from graphopt.evaluate._encoder_run import LINES, EncoderRun
from graphopt.interface import Interface, TensorSpec
from graphopt.metrics import METRICS, Documents, Exact, Sample
from tests.evaluate._sides import IDS, MASK, WORDS, Encoder

Array = np.ndarray[Any, Any]
TABLE = np.random.default_rng(0).normal(size=(WORDS, 8)).astype(np.float32)
TOKENS = TensorSpec("tokens", "float32", ("batch", "sequence", 8))
POOLED = TensorSpec("pooled", "float32", ("batch", 8))
LABEL = TensorSpec("label", "int64", ("batch",))
INTERFACE = Interface((IDS, MASK), (TOKENS, POOLED, LABEL))
TEXTS = [np.random.default_rng(i).integers(0, WORDS, 3 + i % 7) for i in range(60)]


def model(
    noise: float = 0.0, *, drops_the_mask: bool = False, without: str = ""
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Each token's row of a table plus the mean of the text's rows; the mean; its largest entry."""
    rows = TABLE + noise * np.random.default_rng(1).normal(size=TABLE.shape).astype(np.float32)

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        x = rows[feeds["input_ids"]]
        seen = np.ones_like(feeds["attention_mask"]) if drops_the_mask else feeds["attention_mask"]
        mean = (x * seen[..., None]).sum(1) / seen.sum(1)[:, None]
        results = {"tokens": x + mean[:, None], "pooled": mean, "label": mean.argmax(-1)}
        return {name: value for name, value in results.items() if name != without}

    return run


def calls(texts: list[Array]) -> Iterator[Call]:
    for i, tokens in enumerate(texts):
        domain = "even" if i % 2 == 0 else "odd"
        yield Call(
            Window(str(i), domain, tokens),
            text_feeds(INTERFACE, tokens[None], np.ones((1, len(tokens)), int)),
        )


def measured(
    *runs: Callable[..., Any],
    metrics: Collection[str] = ENCODER_METRICS - {"top1_mismatches"},
    interface: Interface = INTERFACE,
    domains: tuple[str, ...] = (),
) -> dict[tuple[str, str], Sample]:
    sides = [Encoder(interface, run) for run in runs]
    run = EncoderRun(sides, Encoder(interface, model()), calls(TEXTS), domains, metrics, lambda text: None)
    run.extend(100_000)
    return {(sample.metric, sample.scope): sample for sample in run.samples()}


def exact(sample: Sample) -> float:
    assert isinstance(sample.evidence, Exact)
    return sample.evidence.value


def values(sample: Sample) -> Array:
    assert isinstance(sample.evidence, Documents)
    return np.concatenate(sample.evidence.values)


def test_cosines_are_those_of_pytorch() -> None:
    found = measured(model(0.3))

    for name, axis in (("tokens", 1), ("pooled", 0)):
        each = np.concatenate(
            [
                torch.nn.functional.cosine_similarity(
                    *(torch.from_numpy(np.asarray(m(call.feeds)[name])) for m in (model(0.3), model())),
                    dim=-1,
                )
                .numpy()
                .reshape(-1)
                for call in calls(TEXTS)
            ]
        )
        np.testing.assert_allclose(values(found["cosine_mean", name]), each, atol=1e-6)
        assert exact(found["cosine_min", name]) == pytest.approx(each.min(), abs=1e-6), axis
    assert exact(found["mismatched_values", ""]) == sum(
        int((model(0.3)(c.feeds)["label"] != model()(c.feeds)["label"]).sum()) for c in calls(TEXTS)
    )


def test_a_package_beside_itself() -> None:
    found = measured(model(), model())

    for (metric, _), sample in found.items():
        if metric == "cosine_mean":
            np.testing.assert_allclose(values(sample), 1.0, rtol=1e-12)
        else:
            expected = 1.0 if "cosine" in metric else 0.0
            assert exact(sample) == pytest.approx(expected, abs=1e-12)
            assert sample.evidence.baseline == exact(sample)  # type: ignore[union-attr]


def test_a_mask_that_is_dropped_is_seen_in_padded_batches_alone() -> None:
    found = measured(model(drops_the_mask=True))

    assert exact(found["cosine_min", "tokens"]) == pytest.approx(1.0)
    for name in ("tokens", "pooled"):
        assert exact(found["padded_cosine_min", name]) < 0.99


def test_what_is_padding_is_not_compared() -> None:
    def otherwise_in_padding(feeds: Mapping[str, Array]) -> dict[str, Array]:
        results = model()(feeds)
        places = feeds["attention_mask"] == 0
        results["tokens"][places] = -results["tokens"][places]
        results["pooled"][places[:, 0]] *= -1
        return results

    found = measured(otherwise_in_padding, metrics=["padded_cosine_min"])

    assert [exact(sample) for sample in found.values()] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("name", ["tokens", "pooled"])
def test_an_output_that_is_missing_is_as_wrong_as_can_be(name: str) -> None:
    found = measured(model(without=name))

    assert set(values(found["cosine_mean", name])) == {-1.0}
    assert exact(found["cosine_min", name]) == exact(found["padded_cosine_min", name]) == -1.0
    assert exact(found["scaled_difference", name]) == np.inf


def test_domains_are_told_apart() -> None:
    found = measured(model(0.3), metrics=["cosine_mean", "cosine_min"], domains=("even", "odd"))
    parts = [exact(found["cosine_min", f"pooled, domain {domain}"]) for domain in ("even", "odd")]

    assert exact(found["cosine_min", "pooled"]) == min(parts) < max(parts)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_parts_of_the_calls_have_together_what_the_whole_has(count: int) -> None:
    def found(part: tuple[int, int]) -> dict[tuple[str, str], Sample]:
        run = EncoderRun(
            [Encoder(INTERFACE, model(0.3))],
            Encoder(INTERFACE, model()),
            calls(TEXTS),
            (),
            ENCODER_METRICS - {"top1_mismatches"},
            lambda text: None,
            part,
        )
        run.extend(100_000)
        return {(sample.metric, sample.scope): sample for sample in run.samples()}

    whole, parts = found((0, 1)), [found((i, count)) for i in range(count)]
    for key, sample in whole.items():
        some = [part[key] for part in parts if key in part]
        if isinstance(sample.evidence, Documents):
            together = np.concatenate([values(one) for one in some])
            np.testing.assert_array_equal(together, values(sample))
        elif key[0] == "mismatched_values":
            assert sum(map(exact, some)) == exact(sample)
        else:
            assert METRICS[key[0]].worst(list(map(exact, some))) == exact(sample)


def test_a_model_without_mask_has_no_padded_batches() -> None:
    with pytest.raises(BadInput, match="padded_cosine_min cannot be measured"):
        measured(model(), interface=Interface((IDS,), (TOKENS,)))


def test_no_more_lines_are_measured_than_are_needed_but_it_can_go_on() -> None:
    texts = [TEXTS[0]] * (LINES + 20)
    run = EncoderRun(
        [Encoder(INTERFACE, model())],
        Encoder(INTERFACE, model()),
        calls(texts),
        (),
        ["cosine_min"],
        lambda text: None,
    )
    run.extend(100_000)
    assert (run.tokens, run.exhausted) == (LINES * len(TEXTS[0]), False)
    run.extend(100_000)
    assert (run.tokens, run.exhausted) == ((LINES + 20) * len(TEXTS[0]), True)
