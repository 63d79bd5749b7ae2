"""Whether `graphopt targets profile` keeps what it promises: a minute, and intervals of nine in ten.

    python benchmarks/machine.py --times 2

Measures the machine so many times, and prints how long each took (goal: 60 seconds), by how much numbers of
the last profile are off those of the first, and how many of them lie in the intervals that the first gave
(nominal: 90 %). What streams from memory is compared as it is at the bandwidth of its own profile.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from graphopt.machine import Interval, Profile, measure, write_profile
from graphopt.plugins import registry
from graphopt.runtime import default_threads

GOAL = 60.0


def numbers(profile: Profile) -> Iterator[tuple[str, Interval]]:
    """Every number that was measured, by what it is."""
    for tier in profile.tiers:
        for threads, rate in tier.read.items():
            yield f"memory {tier.name} {threads}", rate
    for kind, rates in profile.peaks.items():
        for threads, rate in rates.items():
            yield f"peaks {kind} {threads}", rate
    for product in profile.products:
        form = product.model_dump(exclude={"seconds"})
        yield f"{'streamed' if product.streamed else 'cached'} products {form}", product.seconds
    for attention in profile.attention:
        yield f"attention {attention.model_dump(exclude={'seconds'})}", attention.seconds
    for one in profile.operators:
        yield f"operators {one.operator} {one.threads} call", one.call
        yield f"operators {one.operator} {one.threads} element", one.element


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, default_threads()}))
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for the profiles")
    args = parser.parse_args()
    target = registry.targets()[args.target]()
    profiles = [measure(target, args.threads) for _ in range(args.times)]
    for number, profile in enumerate(profiles):
        assert profile.noise is not None
        noise = f"noise {profile.noise.low:.2f}-{profile.noise.high:.2f}"
        print(f"profile {number}: {profile.seconds:.1f} s (goal {GOAL:.0f} s), {noise}")
        if args.keep is not None:
            write_profile(profile, args.keep / f"machine-{number}.json")
    first, last = (dict(numbers(profile)) for profile in (profiles[0], profiles[-1]))
    kinds = sorted({" ".join(name.split()[:2]) if "products" in name else name.split()[0] for name in first})
    for kind in kinds:
        names = [name for name in first if name.startswith(kind) and name in last]
        off = np.array([abs(np.log(last[name].value / first[name].value)) for name in names])
        within = np.mean([first[n].low <= last[n].value <= first[n].high for n in names])
        print(
            f"{kind}: {len(names)} numbers, off by {np.median(off):.1%}, 95 % by {np.quantile(off, 0.95):.1%}"
            f" at most, {within:.0%} within the first profile's intervals"
        )


if __name__ == "__main__":
    main()
