"""What recipes store weights in, asked of their passes before there is a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from typing import Any

from graphopt.cost import GraphWork
from graphopt.pipeline import Pass
from graphopt.planner._candidate import Candidate
from graphopt.plugins import load_recipe, registry, with_options
from graphopt.recipes import OptimizeOptions, Recipe

__all__ = [
    "Stored",
    "Storing",
    "options_of",
    "planning_options",
    "recipe_of",
    "tables_and_weights",
    "written",
]

_BUDGET = "budget"
_FOR = (_BUDGET, "smallest_plan", "part")
"""Options of a pass that plans that damages do not depend on."""
_FLOAT, _FLOATS = 32, ("16", "32")


@dataclass(frozen=True)
class Stored:
    """A weight [k, n], or so many `experts` of that size."""

    name: str
    k: int
    n: int
    experts: int = 1

    @property
    def entries(self) -> int:
        return self.k * self.n * self.experts


@cache
def _recipe(name: str) -> Recipe:
    return load_recipe(name)


@dataclass(frozen=True)
class Storing:
    """A recipe by `name`, as far as a plan asks of it: what it does to weights and caches."""

    name: str

    @property
    def recipe(self) -> Recipe:
        return _recipe(self.name)

    @cached_property
    def passes(self) -> Mapping[str, Pass]:
        """Those that store weights or caches otherwise, by name. The target's own steps store nothing."""
        known = registry.passes()
        made = {
            step.name: known[step.name].configure(step.options)
            for step in self.recipe.steps
            if step.name in known
        }
        return {name: one for name, one in made.items() if _stores(one)}

    @cached_property
    def planner(self) -> str | None:
        """The name of the pass that shares out bits, if there is one."""
        known = registry.passes()
        names = [step.name for step in self.recipe.steps if step.name in known]
        return next((n for n in names if _BUDGET in known[n].Options.__dataclass_fields__), None)

    @cached_property
    def planning(self) -> Mapping[str, Any] | None:
        """What the pass that plans would measure damages by: all its options but those of the budget.

        None where no pass plans.
        """
        if self.planner is None:
            return None
        own = next(step.options for step in self.recipe.steps if step.name == self.planner)
        follower = registry.passes()[self.planner].decides_for
        theirs = next((step.options for step in self.recipe.steps if step.name == follower), {})
        return planning_options(self.planner, {**theirs, **own})

    def cache_bits(self, without: str | None = None) -> int:
        """Of keys and values."""
        found = [p.cache_bits for name, p in self.passes.items() if name != without]
        return next((bits for bits in reversed(found) if bits is not None), 32)

    def forms(self, work: GraphWork, without: str | None = None) -> dict[str, str]:
        """The form of each weight that is not stored as it is; `without` one of the passes."""
        chosen = [one for name, one in self.passes.items() if name != without]
        found = {}
        for weight, looked_up in tables_and_weights(work):
            for one in chosen:
                form = one.form(weight.name, weight.k, weight.n, looked_up=looked_up, experts=weight.experts)
                if form is not None:
                    found[weight.name] = form
                    break
        return found | self._floats(work, chosen)

    def unmeasured(self, work: GraphWork) -> dict[str, str]:
        """Options by PASS.OPTION with which packages come out as `forms` says, whatever would be measured."""
        return {
            f"{name}.{key}": str(value)
            for weight, _ in tables_and_weights(work)
            if weight.experts == 1
            for name, one in self.passes.items()
            for key, value in one.unmeasured(weight.k, weight.n).items()
        }

    def _floats(self, work: GraphWork, chosen: Sequence[Pass]) -> dict[str, str]:
        """Norms, biases and angles, by passes that store any weight in another float."""
        matrices = {weight.name for weight, _ in tables_and_weights(work)}
        found = {}
        for weight in work.weights:
            if written(weight.name) in matrices or weight.bits != _FLOAT:
                continue
            forms = (one.form(weight.name, prod(weight.shape), 1) for one in chosen)
            form = next((form for form in forms if form in _FLOATS), None)
            if form is not None:
                found[weight.name] = form
        return found


def planning_options(planner: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """`options` that the pass called `planner` knows, with its defaults, but for what it plans for."""
    cls = registry.passes()[planner]
    known = {key: value for key, value in options.items() if key in cls.Options.__dataclass_fields__}
    made = cls.configure(known).resolved()
    return {key: value for key, value in made.items() if key not in _FOR}


def written(name: str) -> str:
    """The name of a weight without what passes write after it ("~transpose")."""
    return name.partition("~")[0]


def tables_and_weights(work: GraphWork) -> Iterator[tuple[Stored, bool]]:
    """Each weight that is multiplied or looked up in, once, and whether rows of it are only looked up."""
    products = {node.product.name: node.product for node in work.nodes if node.product is not None}
    for name, one in products.items():
        if name:
            yield Stored(written(name), one.k, one.n, one.experts), False
    looked_up = {use.name for node in work.nodes if node.kind == "lookup" for use in node.weights}
    for weight in work.weights:
        if weight.name in looked_up - products.keys() and len(weight.shape) == 2:
            yield Stored(weight.name, weight.shape[1], weight.shape[0]), True


def recipe_of(candidate: Candidate, kl_mean: float | None = None) -> Recipe:
    """The recipe of a candidate with its options and budget: `recipe_toml` of it is a file for `optimize`.

    Its packages are held to `kl_mean`, where that is given.
    """
    storing = Storing(candidate.recipe)
    settings = [f"{key}={value}" for key, value in candidate.options.items()]
    recipe = with_options(storing.recipe, settings)
    if kl_mean is not None and not recipe.budget.lossless:
        recipe = replace(recipe, budget=recipe.budget.held_to(kl_mean))
    if not candidate.budget:
        return recipe
    text = ",".join(candidate.budget)
    steps = tuple(
        replace(step, options={**step.options, _BUDGET: text}) if step.name == storing.planner else step
        for step in recipe.steps
    )
    said = f"{recipe.description.rstrip('.')}, within {text}."
    return replace(
        recipe, description=said, steps=steps, budget=recipe.budget.held_to(_damage(candidate.budget))
    )


def options_of(candidate: Candidate, recipe: str) -> OptimizeOptions:
    """What `optimize` is asked for to make the candidate by the file `recipe`, which `recipe_of` is in."""
    return OptimizeOptions(target=candidate.target, recipe=recipe)


def _damage(budget: tuple[str, ...]) -> float | None:
    from graphopt.plan import parse_bounds

    return {bound.metric: bound.value for bound in parse_bounds(budget)}.get("kl_mean")


def _stores(one: Pass) -> bool:
    kind = type(one)
    return kind.form is not Pass.form or kind.cache_bits is not Pass.cache_bits
