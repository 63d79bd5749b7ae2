"""What a plan is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.cost import GraphWork
from graphopt.errors import BadInput
from graphopt.io import nearest
from graphopt.machine import Profile
from graphopt.metrics import METRICS
from graphopt.plan import PLANNED, Bound
from graphopt.planner._dollars import Hosting
from graphopt.planner._sensitivities import Sensitivities

__all__ = ["BOUNDED", "MINIMIZED", "Request"]

_DOLLARS = ("usd_per_mtok", "usd_per_mtok_in", "usd_per_mtok_out")
_PREDICTED = ("ttft", "load_time", "prefill_tokens_per_second", "batch_tokens_per_second")
BOUNDED = (*PLANNED, *_PREDICTED, *_DOLLARS)
"""The metrics that a budget of `graphopt plan` may bound."""
MINIMIZED = {
    "tpot": "tpot",
    "ttft": "ttft",
    "bytes": "package_bytes",
    "memory": "peak_memory",
    "kl": "kl_mean",
    "kl_mean": "kl_mean",
    **{name: name for name in _DOLLARS},
}
"""What can be made small, as it is asked for, and its metric."""


@dataclass(frozen=True)
class Request:
    """A model, `name`, as its `work` in single precision, and what is asked of it.

    `profiles` are the machines to weigh, `bounds` the budgets, `minimize` a key of `MINIMIZED` (None: the
    time of a token where divergence is bounded or nothing is, else divergence). Requests have `prompt` tokens
    and are answered with `new`, in batches of one of `batches`, on one of `threads` (none given: those that a
    profile was measured with). `sensitivities` are damages of the model's weights, where these are known, and
    `recipes` the recipes to weigh; `shares_bits`: also by plans of those that have a pass that plans.
    `drafts`: what keeps all but a budget of a token's time may be written with drafts. `positions` is how
    many tokens the model was made for, where that is known.

    Raises `BadInput` for an objective that there is none of, for more tokens than the model has positions,
    and where dollars are asked for of a machine whose price is not known.
    """

    name: str
    work: GraphWork
    profiles: Sequence[Profile]
    recipes: Sequence[str]
    bounds: tuple[Bound, ...] = ()
    minimize: str | None = None
    prompt: int = 256
    new: int = 64
    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    hosting: Hosting = field(default_factory=Hosting)
    sensitivities: Sensitivities | None = None
    shares_bits: bool = True
    drafts: bool = False
    positions: int | None = None

    def __post_init__(self) -> None:
        if self.minimize is not None and self.minimize not in MINIMIZED:
            near = nearest(self.minimize, MINIMIZED)
            raise BadInput(
                f"{self.minimize!r} is nothing that can be made small",
                hint=f"Did you mean {near!r}?" if near else f"There are {', '.join(MINIMIZED)}.",
            )
        if self.positions is not None and self.prompt + self.new > self.positions:
            raise BadInput(
                f"{self.name} is made for {self.positions} tokens, and a prompt of {self.prompt} with"
                f" {self.new} written after it are {self.prompt + self.new}",
                hint="Give fewer with --prompt-tokens or --new-tokens.",
            )
        dear = [one.text for one in self.bounds if one.metric in _DOLLARS]
        if self.objective in _DOLLARS:
            dear.append(f"--minimize {self.minimize}")
        if self.hosting.api_in is not None:
            dear.append("a comparison with an API")
        unpriced = [one.name for one in self.profiles if self.hosting.per_hour(one.price_per_hour, 1) is None]
        if dear and unpriced:
            raise BadInput(
                f"{dear[0]} needs to know what {unpriced[0]} costs an hour",
                hint="Give --price, in dollars, or NAME@PRICE.",
            )

    @property
    def objective(self) -> str:
        """The metric that is made small."""
        if self.minimize is not None:
            return MINIMIZED[self.minimize]
        bounded = {one.metric for one in self.bounds}
        return "tpot" if "kl_mean" in bounded or not bounded else "kl_mean"

    def broken(self, values: dict[str, float]) -> tuple[str, ...]:
        """The budgets that `values` by metric do not keep, as they are written."""
        return tuple(
            one.text
            for one in self.bounds
            if one.metric not in values or not METRICS[one.metric].holds(values[one.metric], one.value)
        )
