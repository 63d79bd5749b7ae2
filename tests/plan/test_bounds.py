"""Budgets as they are written, and what is wrong with them."""

from __future__ import annotations

import pytest

from graphopt import BadInput
from graphopt.metrics import METRICS
from graphopt.plan import PLANNED, parse_bounds


@pytest.mark.parametrize(
    ("text", "metric", "value"),
    [
        ("kl_mean=0.02", "kl_mean", 0.02),
        (" kl_mean = 2e-2 ", "kl_mean", 0.02),
        ("kl_mean=0.02nats", "kl_mean", 0.02),
        ("package_bytes=700MB", "package_bytes", 7e8),
        ("weight_bytes=2GiB", "weight_bytes", 2**31),
        ("peak_memory=3GB", "peak_memory", 3e9),
        ("bpw=4.25", "bpw", 4.25),
        ("tpot=20ms", "tpot", 0.02),
        ("decode_tokens_per_second=40tok/s", "decode_tokens_per_second", 40),
    ],
)
def test_a_value_is_in_the_unit_of_its_metric(text: str, metric: str, value: float) -> None:
    (bound,) = parse_bounds([text])
    assert (bound.metric, bound.value, bound.text) == (metric, pytest.approx(value), text.strip())


def test_several_may_stand_in_one_text() -> None:
    bounds = parse_bounds(["kl_mean=0.02, bpw=4", "tpot=20ms"])
    assert [bound.metric for bound in bounds] == ["kl_mean", "bpw", "tpot"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kl_maen=0.02", "there is no metric 'kl_maen'.*Did you mean 'kl_mean'"),
        ("top1_agreement=0.9", "nothing can be planned for 'top1_agreement'"),
        ("package_bytes=700", "700 of what.*700B"),
        ("package_bytes=700Mb", "Did you mean 'MB'"),
        ("tpot=20MB", "tpot is not in 'MB'"),
        ("kl_mean<=0.02", "is not METRIC=VALUE"),
        ("kl_mean=", "is not METRIC=VALUE"),
        ("", "is not METRIC=VALUE"),
        ("kl_mean=0", "above 0"),
        ("bpw=-3", "above 0"),
        ("bpw=1e999", "finite"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_name(text: str, message: str) -> None:
    with pytest.raises(BadInput, match="(?s)" + message):
        parse_bounds([text])


def test_two_bounds_of_a_metric_are_refused() -> None:
    with pytest.raises(BadInput, match="there is 'bpw=4' already"):
        parse_bounds(["bpw=4", "bpw=5"])


def test_what_can_be_planned_for_is_measured() -> None:
    assert set(PLANNED) <= METRICS.keys()


def test_others_may_be_bounded_where_they_are_known() -> None:
    known = (*PLANNED, "ttft", "usd_per_mtok")
    bounds = parse_bounds(["ttft=800ms", "usd_per_mtok=0.5$"], known)
    assert [(bound.metric, bound.value) for bound in bounds] == [("ttft", 0.8), ("usd_per_mtok", 0.5)]
    with pytest.raises(BadInput, match="nothing can be planned for 'ttft'"):
        parse_bounds(["ttft=800ms"])
