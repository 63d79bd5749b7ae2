"""How long requests wait for a machine that others use, too."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Queue", "erlang_c", "queue_of"]


@dataclass(frozen=True)
class Queue:
    """What a request meets at a machine that serves `slots` at once and is busy for a share of the time.

    `requests_per_second` come, each takes `service` seconds of a slot, and waits `wait` seconds for one in
    the mean.
    """

    slots: int
    utilisation: float
    service: float
    requests_per_second: float
    wait: float
    model: str = "M/D/c: Poisson arrivals, equal requests, as many slots as texts of a batch"


def erlang_c(slots: int, load: float) -> float:
    """The probability that a request of an M/M/c queue waits (Erlang 1917); `load` is arrivals x service.

    By the recursion of Erlang's B formula, which does not overflow.
    """
    blocked = 1.0
    for number in range(1, slots + 1):
        blocked = load * blocked / (number + load * blocked)
    return slots * blocked / (slots - load * (1 - blocked))


def queue_of(slots: int, service: float, utilisation: float) -> Queue:
    """The queue of a machine of `slots`, each request taking `service` seconds, busy for `utilisation` < 1.

    The mean wait is that of M/M/c, (1 + cv^2) / 2 times (Lee and Longton, Operational Research Quarterly 10,
    1959), with cv = 0, since requests are alike; of one slot that is Pollaczek and Khinchine's exact M/D/1.
    """
    load = slots * utilisation
    wait = erlang_c(slots, load) * service / (slots * (1 - utilisation)) / 2
    return Queue(slots, utilisation, service, load / service, wait)
