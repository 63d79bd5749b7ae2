"""graphopt plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli._console import console, in_a_folder, json_option, quiet_option, working, write_json
from graphopt.cli._plugins import no_plugins_option
from graphopt.errors import BadInput, CheckFailed

if TYPE_CHECKING:
    from graphopt.machine import Profile
    from graphopt.planner import Choice, Hosting, Planned, Request

__all__ = ["command", "hosting_options", "situation_options"]

_BATCHES = (1, 4, 16, 64, 256)
"""What is weighed where machines are compared, and nobody says in what batches."""


_DECIDED_BY_BITS = ("kl_mean", "bpw", "package_bytes", "weight_bytes")


def _counts(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...]:
    if value is None:
        return ()
    try:
        found = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no number, nor several with commas between them") from None
    if any(not 1 <= one <= 1 << 20 for one in found):
        raise click.BadParameter(f"{value!r}: each is at least 1 and at most 1048576")
    return tuple(dict.fromkeys(found))


def _prices(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    parts = value.split(",")
    try:
        first, second = (float(part) for part in parts)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not IN,OUT: dollars for a million tokens, 30,60 say"
        ) from None
    return first, second


def situation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is asked of a package, and by whom it is paid."""
    for option in reversed(
        (
            click.option(
                "--prompt-tokens",
                type=click.IntRange(1, 1 << 24),
                default=256,
                show_default=True,
                help="Length of a prompt.",
            ),
            click.option(
                "--new-tokens",
                type=click.IntRange(1, 1 << 24),
                default=64,
                show_default=True,
                help="Tokens that are written after it.",
            ),
            click.option(
                "--batch",
                callback=_counts,
                metavar="N[,N...]",
                help="Texts that are written together; of several the best.  [default: 1]",
            ),
            click.option(
                "--threads",
                callback=_counts,
                metavar="N[,N...]",
                help="[default: those that the machine was measured with]",
            ),
        )
    ):
        command = option(command)
    return command


def hosting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is paid."""
    for option in reversed(
        (
            click.option(
                "--price",
                type=float,
                metavar="$/h",
                help="What a machine costs an hour.  [default: what its profile says]",
            ),
            click.option(
                "--api-price",
                callback=_prices,
                metavar="IN,OUT",
                help="What an API asks for a million tokens read and written, to compare with.",
            ),
            click.option(
                "--utilization",
                type=float,
                default=1.0,
                show_default=True,
                metavar="SHARE",
                help="Share of the time in which a machine answers requests.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command("plan")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--target",
    metavar="NAME[,NAME...]",
    help="Weigh these targets, as this machine was measured with them.  [default: graphopt's first]",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    metavar="NAME|FILE.toml",
    help="Weigh this recipe; may be repeated.  [default: all that are installed]",
)
@click.option(
    "--budget",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Keep kl_mean=0.02, ttft=800ms, tpot=40ms, peak_memory=2GB, package_bytes=700MB, usd_per_mtok=0.5..."
    "; may be repeated.",
)
@click.option(
    "--minimize",
    metavar="WHAT",
    help="tpot, ttft, bytes, memory, kl, usd_per_mtok, usd_per_mtok_in or usd_per_mtok_out.  [default: tpot;"
    " kl where only others are bounded]",
)
@situation_options
@hosting_options
@click.option(
    "--machine", metavar="NAME|FILE", help="A machine that is cited or shared, in place of this one."
)
@click.option(
    "--machines",
    metavar="A,B,...",
    help="Compare hosting on these; `here` is this machine, NAME@PRICE one at so many dollars an hour.",
)
@click.option(
    "--verify",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Make the first N plans, and measure them beside what is predicted.",
)
@click.option(
    "--ray",
    metavar="local|auto|HOST:PORT",
    help="Measure what bits cost this model first, where no run did, in tasks that Ray spreads; those of"
    " --verify run there, too (as for graphopt sweep).  [default of --verify: local]",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=in_a_folder,
    metavar="RECIPE.toml",
    help="Write the chosen plan as a recipe, for optimize --recipe.",
)
@json_option
@quiet_option
@no_plugins_option
def command(
    sources: tuple[str, ...],
    machine: str | None,
    machines: str | None,
    verify: int | None,
    ray: str | None,
    out: Path | None,
    json_file: str | None,
    quiet: bool,
    **asked: Any,
) -> None:
    """Say which recipe, bits and machine serve SOURCE best, within budgets, before anything is made.

    SOURCE is a Hugging Face folder, of which only config.json is read, an .onnx file, a package, the name of
    an embedded model, or a shape without weights: llama-3.1-8b.

    Times are predicted from what `graphopt targets profile` measured of this machine, and intervals hold nine
    of ten measurements. Exit code 1: no plan keeps the budgets.
    """
    from graphopt.planner import planned_source

    if machine is not None and machines is not None:
        raise click.UsageError("--machine and --machines exclude each other")
    if machines is None and len(sources) > 1:
        raise click.UsageError("several SOURCEs are compared on --machines")
    if machines is not None and (out is not None or verify is not None or ray is not None):
        raise click.UsageError("-o, --verify and --ray are of the plan for one machine: say --machine")
    if machine is not None and verify is not None:
        raise click.UsageError("--verify measures on this machine: leave out --machine")
    if verify is not None and any(count != 1 for count in asked["batch"]):
        raise click.UsageError("--verify measures one text at a time: leave out --batch")
    hosting = _hosting(asked.pop("price"), asked.pop("api_price"), asked.pop("utilization"))
    target = asked.pop("target")
    _require_here(target, machine, machines)
    planned = [planned_source(source) for source in sources]
    if machines is not None:
        profiles = [_profile(name, target) for name in dict.fromkeys(machines.split(","))]
        requests = [_request(one, profiles, hosting, comparing=True, **asked) for one in planned]
        _compare(requests, json_file, quiet)
        return
    found = [load_here(name) for name in dict.fromkeys(target.split(","))] if target and not machine else []
    profiles = found or [_profile(machine or "here", target)]
    (model,) = planned
    if verify is not None and model.source is None:
        raise click.UsageError(f"{sources[0]} is a shape without weights: nothing can be made of it")
    if ray is not None:
        model = _with_damages(model, asked, target, ray, quiet)
    request = _request(model, profiles, hosting, **asked)
    _plan(request, out, json_file, quiet, verify, model.source, ray or "local")


def _require_here(target: str | None, machine: str | None, machines: str | None) -> None:
    """`UsageError` for a --target that no machine is asked about, or for several where one is compared."""
    if target is None:
        return
    named = [name.partition("@")[0] for name in (machines or machine or "here").split(",")]
    if "here" not in named:
        raise click.UsageError(
            "--target is of this machine, and none of those that are asked about is `here`"
        )
    if "," in target and (machines or machine):
        raise click.UsageError("of several --targets none is compared with machines: say one")


def _with_damages(
    model: Planned,
    asked: dict[str, Any],
    target: str | None,
    ray: str,
    quiet: bool,
) -> Planned:
    """With what bits cost the model, measured on this machine or a cluster where no run did."""
    from graphopt.planner import with_damages
    from graphopt.plugins import registry
    from graphopt.runtime import default_threads

    recipes = asked["recipes"] or tuple(registry.recipes())
    first = None if target is None else target.split(",")[0]
    threads = max(asked["threads"] or (default_threads(),))
    with working(quiet) as say:
        say("measuring what bits cost")
        return with_damages(model, recipes, target=first, threads=threads, ray=ray)


def _hosting(price: float | None, api: tuple[float, float] | None, utilization: float) -> Hosting:
    from graphopt.planner import Hosting

    api_in, api_out = api or (None, None)
    return Hosting(price, utilization, api_in, api_out)


def _profile(text: str, target: str | None) -> Profile:
    """That of a cited or shared machine, or of this one: `here`. "NAME@PRICE" says what it costs an hour."""
    from graphopt.machine import Interval, load_profile
    from graphopt.planner import Hosting

    name, price = text, ""
    if "@" in text and not Path(text).is_file():
        name, _, price = text.rpartition("@")
    if name == "here":
        found = load_here(target).model_copy(update={"name": name})
    else:
        found = load_profile(name)
        if found.name == found.target:  # as all that were measured are called
            found = found.model_copy(update={"name": Path(name).stem})
    if not price:
        return found
    try:
        paid = float(price)
    except ValueError:
        raise click.UsageError(f"{text}: {price!r} is no price in dollars an hour") from None
    Hosting(price=paid)  # says what is wrong with it
    return found.model_copy(update={"price_per_hour": Interval(value=paid, low=paid, high=paid)})


def load_here(target: str | None) -> Profile:
    """What was measured of this machine with the target. `BadInput` where nothing was."""
    from graphopt.machine import known_profile
    from graphopt.plugins import registry

    cls = (
        registry.default_target()
        if target is None
        else registry.resolve("target", target, registry.targets())
    )
    made = cls()
    found = known_profile(made)
    if found is None:
        raise BadInput(
            f"this machine was not measured with target {made.name!r}",
            hint=f"graphopt targets profile {made.name} does, in less than a minute; or say --machine.",
        )
    return found


def _request(
    planned: Planned,
    profiles: list[Profile],
    hosting: Hosting,
    *,
    recipes: tuple[str, ...],
    budget: tuple[str, ...],
    minimize: str | None,
    prompt_tokens: int,
    new_tokens: int,
    batch: tuple[int, ...],
    threads: tuple[int, ...],
    comparing: bool = False,
) -> Request:
    from graphopt.plan import parse_bounds
    from graphopt.planner import BOUNDED, Request
    from graphopt.plugins import registry

    bounds = parse_bounds(budget, BOUNDED)
    return Request(
        planned.name,
        planned.work,
        profiles,
        recipes or tuple(registry.recipes()),
        bounds,
        minimize or ("usd_per_mtok" if comparing else None),
        prompt_tokens,
        new_tokens,
        batch or (_BATCHES if comparing else (1,)),
        threads,
        hosting,
        planned.sensitivities,
        # Many machines and sizes are weighed: bits are shared out where somebody bounds what they decide.
        not comparing or any(one.metric in _DECIDED_BY_BITS for one in bounds),
        drafts=not comparing,
        positions=planned.positions,
    )


def _plan(
    request: Request,
    out: Path | None,
    json_file: str | None,
    quiet: bool,
    count: int | None,
    source: str | None,
    ray: str,
) -> None:
    from graphopt.cli._plan_tables import print_choice, print_verified
    from graphopt.planner import choice_json, choose, verified_json, verify
    from graphopt.report import plural

    choice = choose(request)
    if count is None or not choice.outlooks[0].keeps:  # the JSON says what there is instead
        write_json(json_file, choice_json(choice))
    best = choice.best
    if out is not None:
        _write(choice, out)
    shows = not quiet and json_file != "-"
    if shows:
        print_choice(choice, best, console(), out, source)
    if count is None or source is None:
        return
    with working(quiet) as say:
        say(f"making and measuring {plural(count, 'plan')}")
        found = verify(choice, count, source=source, ray=ray)
    write_json(json_file, {**choice_json(choice), "verified": verified_json(found)})
    if shows:
        print_verified(found, console())
    if not found[0].keeps:
        raise CheckFailed(
            f"{request.name}: the chosen plan does not keep its budget",
            hint=found[0].error or found[0].missed(),
        )


def _write(choice: Choice, out: Path) -> None:
    from graphopt.planner import recipe_of
    from graphopt.recipes import recipe_toml

    bound = next((one.value for one in choice.request.bounds if one.metric == "kl_mean"), None)
    out.write_text(recipe_toml(recipe_of(choice.best.candidate, bound)), encoding="utf-8")


def _compare(requests: list[Request], json_file: str | None, quiet: bool) -> None:
    from graphopt.cli._plan_tables import print_hosted
    from graphopt.planner import hosted, hosted_json

    found = [one for request in requests for one in hosted(request)]
    write_json(json_file, hosted_json(requests[0], found))
    if not quiet and json_file != "-":
        print_hosted(requests[0], found, console())
    if all(one.choice is None for one in found):
        raise CheckFailed(
            f"no machine serves {', '.join(one.name for one in requests)}", hint=found[0].refused
        )
