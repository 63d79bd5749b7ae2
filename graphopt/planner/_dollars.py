"""What tokens cost on a machine that is paid by the hour, beside what an API asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.errors import BadInput
from graphopt.machine import Interval

__all__ = ["Hosting", "dollars", "exactly"]

_HOUR = 3600.0
_MILLION = 1e6


@dataclass(frozen=True)
class Hosting:
    """What is paid: `price` in dollars an hour of one machine (None: what its profile says), for
    `utilization` of which it answers requests, and an API's dollars for a million tokens `api_in` and
    `api_out`. `BadInput` for prices below 0 and a utilization that is not above 0 and at most 1."""

    price: float | None = None
    utilization: float = 1.0
    api_in: float | None = None
    api_out: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.utilization <= 1:
            raise BadInput(
                f"a utilization of {self.utilization:g} is not above 0 and at most 1",
                hint="It is the share of the time in which the machine answers requests: 0.5, say.",
            )
        for what, price in (
            ("a price of", self.price),
            ("an API price of", self.api_in),
            ("an API price of", self.api_out),
        ):
            if price is not None and not 0 <= price < float("inf"):
                raise BadInput(f"{what} {price:g} dollars is none: it is a finite number, 0 or more")

    def per_hour(self, profile_price: Interval | None, devices: int) -> Interval | None:
        """Of so many machines, in dollars."""
        one = profile_price
        if self.price is not None:
            one = exactly(self.price)
        return None if one is None else _times(one, devices)

    def api_request(self, prompt: int, new: int) -> float | None:
        """What an API asks for a request, in dollars."""
        if self.api_in is None or self.api_out is None:
            return None
        return (prompt * self.api_in + new * self.api_out) / _MILLION

    def break_even(self, prompt: int, new: int, metrics: Mapping[str, Interval]) -> Interval | None:
        """The utilization from which on the machine is cheaper than the API; above 1: never.

        `metrics` has `usd_per_mtok` at this object's own utilization.
        """
        asked, own = self.api_request(prompt, new), metrics.get("usd_per_mtok")
        if not asked or own is None:
            return None
        return _times(own, self.utilization * (prompt + new) / _MILLION / asked)


def dollars(
    metrics: Mapping[str, Interval],
    prompt: int,
    new: int,
    batch: int,
    per_hour: Interval,
    utilization: float,
) -> dict[str, Interval]:
    """`usd_per_mtok_in`, `usd_per_mtok_out` and `usd_per_mtok`, from `ttft` and `tpot` of a batch.

    Texts of a batch are read together and written together; `ttft` is until the first token of all of them.
    A machine that idles for a part of the time is paid for it all the same.
    """
    ttft, tpot = metrics["ttft"], metrics["tpot"]
    second = _times(per_hour, _MILLION / _HOUR / utilization / batch)
    request = _plus(ttft, _times(tpot, new - 1))
    return {
        "usd_per_mtok_in": _times(_by(second, ttft), 1 / prompt),
        "usd_per_mtok_out": _by(second, tpot),
        "usd_per_mtok": _times(_by(second, request), 1 / (prompt + new)),
    }


def exactly(value: float) -> Interval:
    """Nothing else is possible."""
    return Interval(value=value, low=value, high=value)


def _times(one: Interval, factor: float) -> Interval:
    return Interval(value=one.value * factor, low=one.low * factor, high=one.high * factor)


def _by(one: Interval, other: Interval) -> Interval:
    return Interval(value=one.value * other.value, low=one.low * other.low, high=one.high * other.high)


def _plus(one: Interval, other: Interval) -> Interval:
    return Interval(value=one.value + other.value, low=one.low + other.low, high=one.high + other.high)
