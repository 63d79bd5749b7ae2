"""The ways to ship a model that a plan weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from graphopt.cost import Product, package_bytes, product_seconds, with_forms
from graphopt.errors import CheckFailed
from graphopt.machine import Interval, Profile
from graphopt.plan import PLANNED, Bound
from graphopt.planner._candidate import Candidate
from graphopt.planner._damages import together, typical
from graphopt.planner._mixtures import GRID, bits_of, largest, mixture
from graphopt.planner._recipes import Stored, Storing, tables_and_weights, written
from graphopt.planner._request import Request

__all__ = ["Stock", "Way", "threads_of", "ways"]

_SIZES = ("bpw", "weight_bytes", "package_bytes")


@dataclass(frozen=True)
class Way:
    """A recipe with forms, whatever it runs on, and the divergence that is expected of it, if anything is."""

    candidate: Candidate
    kl: Interval | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stock:
    """What is known of a request before any machine is: its weights and how recipes store them."""

    request: Request

    @cached_property
    def weights(self) -> tuple[Stored, ...]:
        return tuple(weight for weight, _ in tables_and_weights(self.request.work))

    @cached_property
    def experts(self) -> frozenset[str]:
        """Names of those of experts: no plan shares bits out among them."""
        return frozenset(weight.name for weight in self.weights if weight.experts > 1)

    def bpw(self, candidate: Candidate) -> float | None:
        """Bits that an entry of a quantized weight takes, the mean; None where none is quantized."""
        rounded = [(w, f) for w in self.weights if "/" in (f := candidate.forms.get(w.name, "32"))]
        entries = sum(weight.entries for weight, _ in rounded)
        return sum(w.entries * bits_of(f) for w, f in rounded) / entries if entries else None


def ways(request: Request) -> Iterator[Way]:
    """Recipes as they are, and plans of those that have a pass that plans."""
    stock = Stock(request)
    for name in request.recipes:
        storing = Storing(name)
        if storing.recipe.budget.lossless and storing.passes:
            continue
        forms = storing.forms(request.work)
        if not forms and not storing.recipe.budget.lossless:
            continue  # what came quantized stays: it would be weighed as it is by another recipe
        options = storing.unmeasured(request.work)
        plain = Candidate(name, "", 0, options, forms, storing.cache_bits())
        yield Way(plain, *_divergence(request, storing, plain))
        if storing.planner is not None and request.shares_bits:
            yield from _planned(request, stock, storing)


def _divergence(
    request: Request, storing: Storing, candidate: Candidate
) -> tuple[Interval | None, tuple[str, ...]]:
    known = request.sensitivities
    if known is not None and known.planning == storing.planning:
        predicted = known.damage(candidate.forms)
        if predicted is not None:
            return together(predicted, known.factor, known.near), ()
    kl = typical().recipe(storing)
    usual = ("divergence is that of other models",) if kl is not None and kl.value else ()
    return kl, usual


def _planned(request: Request, stock: Stock, storing: Storing) -> Iterator[Way]:
    known = request.sensitivities
    if known is not None and known.planning == storing.planning:
        yield from _measured(request, stock, storing)
    elif typical().planned(storing, GRID[0]) is not None and not request.work.has_experts:
        yield from _usual(request, stock, storing)


def _usual(request: Request, stock: Stock, storing: Storing) -> Iterator[Way]:
    """Plans by bits a weight, and the least that keeps divergence, or the most that keep sizes, in budget."""
    bounds = {one.metric: one for one in request.bounds}
    sizes = [bounds[metric] for metric in _SIZES if metric in bounds]
    asked: dict[str, float] = {}
    if "kl_mean" in bounds:
        limit = bounds["kl_mean"].value
        above = largest(lambda bits: _usual_kl(storing, bits).value > limit)
        asked[bounds["kl_mean"].text] = bits_of("2/128") if above is None else above + 0.001
    if sizes:
        most = largest(lambda bits: all(_fits(request, stock, storing, bits, one) for one in sizes))
        if most is not None:
            asked[",".join(one.text for one in sizes)] = most
    asked |= {f"bpw={bits:g}": bits for bits in GRID}
    for text, bits in asked.items():
        candidate = Candidate(
            storing.name,
            "",
            0,
            forms=mixture(stock.weights, bits),
            cache_bits=storing.cache_bits(),
            budget=tuple(text.split(",")),
        )
        yield Way(candidate, _usual_kl(storing, bits), ("divergence is that of plans of other models",))


def _usual_kl(storing: Storing, bits: float) -> Interval:
    kl = typical().planned(storing, bits)
    assert kl is not None
    return kl


def _fits(request: Request, stock: Stock, storing: Storing, bits: float, bound: Bound) -> bool:
    if bound.metric == "bpw":
        return bits <= bound.value
    work = with_forms(request.work, mixture(stock.weights, bits), storing.cache_bits())
    size = work.weight_bytes if bound.metric == "weight_bytes" else package_bytes(work)
    return size <= bound.value


def _measured(request: Request, stock: Stock, storing: Storing) -> Iterator[Way]:
    """Plans by damages of the model's own weights: for the budgets that are asked for, and by bits."""
    known = request.sensitivities
    assert known is not None
    factor = together(1.0, known.factor).value
    bounds = [one for one in request.bounds if one.metric in PLANNED and not one.of_time]
    kept = {name: form for name, form in storing.forms(request.work).items() if name in stock.experts}
    plans: list[tuple[Sequence[Bound], bool]] = [([Bound("bpw", b, f"bpw={b:g}")], False) for b in GRID]
    if bounds:
        plans.append((bounds, False))
        if any(one.metric == "kl_mean" for one in bounds) and request.objective not in (
            "package_bytes",
            "bpw",
        ):
            plans.append((bounds, True))
    for asked, fastest in plans:
        seconds = _seconds(request) if fastest else None
        try:
            forms = known.forms(asked, factor, seconds)
        except CheckFailed:
            continue
        candidate = Candidate(
            storing.name,
            "",
            0,
            options={f"{storing.planner}.smallest_plan": "seconds"} if fastest else {},
            forms={**kept, **forms},
            cache_bits=storing.cache_bits(),
            budget=tuple(one.text for one in asked),
        )
        predicted = known.damage(forms)
        assert predicted is not None
        yield Way(candidate, together(predicted, known.factor, known.near))


def _seconds(request: Request) -> Callable[[Sequence[str], str], float]:
    """What products of weights by name take of a token on the first machine, by its profile."""
    profile = request.profiles[0]
    threads = max(threads_of(profile, request.threads))
    sizes = {weight.name: weight for weight, looked_up in tables_and_weights(request.work) if not looked_up}

    def seconds(names: Sequence[str], form: str) -> float:
        bits, _, block = form.partition("/")
        found = 0.0
        for one in (sizes[name] for name in map(written, names) if name in sizes):
            size = round(one.entries * bits_of(form) / 8)
            product = Product(
                one.name, one.k, one.n, int(bits), int(block.rstrip("z")), block.endswith("z"), size
            )
            found += product_seconds(profile, product, rows=1, threads=threads).value
        return found

    return seconds


def threads_of(profile: Profile, asked: Sequence[int]) -> Sequence[int]:
    """The numbers of threads to weigh: those `asked` for, else those that a profile was measured with.

    Of a cited machine nothing is known but with its own; 0 is a device's.
    """
    known = sorted({count for tier in profile.tiers for count in tier.read})
    if profile.kind == "cited":
        asked = [count for count in asked if count in known]
    return asked or known or (1,)
