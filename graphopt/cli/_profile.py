"""graphopt targets profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from graphopt.cli._console import console, in_a_folder, json_option, quiet_option, working, write_json
from graphopt.cli._numbers import FiniteRange
from graphopt.cli._plugins import no_plugins_option

if TYPE_CHECKING:
    from rich.table import Table

    from graphopt.machine import Interval, Profile

__all__ = ["command"]

_DISTURBED = 0.2
"""By so much the same call may take longer or shorter a moment later. A judgement."""


@click.command("profile")
@no_plugins_option
@click.argument("target", required=False)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="Measure with so many; may be given again.  [default: 1, and as many as this process may use]",
)
@click.option(
    "--minutes",
    type=FiniteRange(0, 24 * 60),
    default=0.0,
    help="Afterwards sample memory for so long: a virtual machine's changes by half within minutes.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=in_a_folder,
    help="Also write the profile here, to be shared.",
)
@click.option("--list", "listed", is_flag=True, help="List machines that are cited from data sheets.")
@click.option("--show", metavar="MACHINE", help="Show a cited machine, or a profile in a file.")
@json_option
@quiet_option
def command(
    target: str | None,
    threads: tuple[int, ...],
    minutes: float,
    output: Path | None,
    listed: bool,
    show: str | None,
    json_file: str | None,
    quiet: bool,
) -> None:
    """Measure what this machine can do, for predictions, in a minute; it is kept for later commands.

    Memory and caches, products of every form by rows, attention by length, operators, and what the runtime
    itself takes, on TARGET, or on the one that packages are made for by default. --list and --show measure
    nothing.
    """
    if listed + (show is not None) + (target is not None) > 1:
        raise click.UsageError("give one of TARGET, --list and --show")
    from graphopt.machine import keep_profile, load_profile, profile_names, write_profile

    if listed:
        found = [load_profile(name) for name in profile_names()]
        write_json(json_file, [profile.model_dump(mode="json") for profile in found])
        if json_file != "-":
            _print_list(found)
        return
    profile = _measured(target, threads, minutes, quiet) if show is None else load_profile(show)
    if output is not None:  # first, since the cache may not be writable
        write_profile(profile, output)
    if show is None:
        place = keep_profile(profile)
    write_json(json_file, profile.model_dump(mode="json"))
    if json_file == "-" or quiet:
        return
    _print(profile)
    if show is None:
        console().print(f"\nkept in {place}" + (f", written to {output}" if output else ""), style="dim")


def _measured(name: str | None, threads: tuple[int, ...], minutes: float, quiet: bool) -> Profile:
    from graphopt.machine import known_profile, measure, with_memory
    from graphopt.plugins import registry
    from graphopt.runtime import default_threads

    kind = registry.resolve("target", name, registry.targets()) if name else registry.default_target()
    target = kind()
    target.diagnose().require(target.name)
    counts = sorted(set(threads) or {1, default_threads()})
    before = known_profile(target)
    with working(quiet) as say:
        profile = measure(target, counts, minutes=minutes, say=say)
    # Memory is the same machine's: what it gave at other times says more of its spread than this minute.
    earlier = [one for one in before.memory if one.threads in counts] if before else []
    return with_memory(profile, earlier)


def _print_list(profiles: Iterable[Profile]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("machine", style="cyan", no_wrap=True)
    table.add_column("what it is")
    for column in ("memory", "reads", "fp16", "int8"):
        table.add_column(column, justify="right")
    for one in profiles:
        memory = one.tiers[-1]
        table.add_row(
            one.name,
            one.title,
            _bytes(one.memory_bytes),
            _rate(memory.read),
            *(_operations(one.peaks.get(kind, {})) for kind in ("fp16", "int8")),
        )
    console().print(table)


def _print(profile: Profile) -> None:
    from rich.text import Text

    out = console()
    out.print(Text.assemble((profile.name, "bold cyan"), f"  {profile.title}" if profile.title else ""))
    if profile.kind == "measured":
        said = ", ".join(f"{key} {value}" for key, value in profile.identity.items())
        out.print(Text(said, "dim"))
        out.print(Text(f"measured on {profile.date} in {profile.seconds:.0f} s", "dim"))
    else:
        out.print(Text(f"cited from data sheets, {profile.date}", "dim"))
    out.print()
    out.print(_tiers(profile))
    out.print()
    out.print(_peaks(profile))
    if profile.products:
        out.print()
        out.print(_products(profile))
    if profile.attention:
        out.print()
        out.print(_attention(profile))
    if profile.links or profile.price_per_hour or profile.watts:
        out.print()
        out.print(_rest(profile))
    for name, source in profile.sources.items():
        said = ", ".join(part for part in (source.title, source.publisher, source.date) if part)
        out.print(Text(f"{name}: {said}" + (f": {source.says}" if source.says else ""), "dim"))
    if profile.noise is not None:
        worst = max(profile.noise.high - 1, 1 - profile.noise.low)
        out.print()
        span = f"{profile.noise.low:.2f} to {profile.noise.high:.2f}"
        said = f"The same call takes {span} times as long a moment later"
        if worst > _DISTURBED:
            out.print(
                Text(f"{said}: measuring was disturbed. Measure again when nothing else runs.", "yellow")
            )
        else:
            out.print(Text(f"{said}.", "dim"))


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _tiers(profile: Profile) -> Table:
    counts = sorted({count for tier in profile.tiers for count in tier.read})
    table = _table("memory", "size", *(_threads(count) for count in counts))
    for tier in profile.tiers:
        cells = [_interval(tier.read.get(count), 1e9) for count in counts]
        table.add_row(tier.name, _bytes(tier.bytes), *(f"{cell} GB/s" if cell else "" for cell in cells))
    return table


def _peaks(profile: Profile) -> Table:
    counts = sorted({count for rates in profile.peaks.values() for count in rates})
    table = _table("products at best", *(_threads(count) for count in counts))
    for kind, rates in profile.peaks.items():
        cells = [_interval(rates.get(count), 1e9) for count in counts]
        table.add_row(kind, *(f"{cell} G/s" if cell else "" for cell in cells))
    if profile.dispatch:
        cells = [_interval(profile.dispatch.get(count), 1e-6, 2) for count in counts]
        table.add_row("a node", *(f"{cell} µs" if cell else "" for cell in cells))
    return table


def _products(profile: Profile) -> Table:
    """Of the shape with most forms, with the most threads."""
    threads = max(rate.threads for rate in profile.products)
    rates = [rate for rate in profile.products if rate.threads == threads]
    shapes = [(rate.k, rate.n) for rate in rates]
    k, n = max(shapes, key=shapes.count)
    of_shape = [rate for rate in rates if (rate.k, rate.n) == (k, n)]
    columns = sorted({(not rate.streamed, rate.rows) for rate in of_shape})
    heads = [f"{rows}{' cached' if cached else ''}" for cached, rows in columns]
    table = _table(f"{k} x {n} times rows, µs", *heads)
    for bits, block, zeros in sorted({(r.bits, r.block, r.zeros) for r in of_shape}):
        found = {
            (not r.streamed, r.rows): r.seconds
            for r in of_shape
            if (r.bits, r.block, r.zeros) == (bits, block, zeros)
        }
        name = f"{bits}/{block}{'z' if zeros else ''}" if block else f"fp{bits}"
        table.add_row(name, *(_value(found.get(column), 1e-6) for column in columns))
    return table


def _attention(profile: Profile) -> Table:
    threads = max(rate.threads for rate in profile.attention)
    rates = [rate for rate in profile.attention if rate.threads == threads and rate.batch == 1]
    columns = sorted({(rate.past, rate.rows) for rate in rates}, key=lambda one: (one[0] == 0, one))
    heads = [f"past {past}" if past else f"read {rows}" for past, rows in columns]
    table = _table("attention, µs", *heads)
    kinds = dict.fromkeys((r.heads, r.kv_heads, r.head_size, r.cache_bits) for r in rates)
    for kind in kinds:
        found = {
            (r.past, r.rows): r.seconds
            for r in rates
            if (r.heads, r.kv_heads, r.head_size, r.cache_bits) == kind
        }
        name = f"{kind[0]}:{kind[1]} heads of {kind[2]}, {kind[3]} bits"
        table.add_row(name, *(_value(found.get(column), 1e-6) for column in columns))
    return table


def _rest(profile: Profile) -> Table:
    table = _table("beside", "")
    for name, rate in profile.links.items():
        table.add_row(name, f"{_interval(rate, 1e9)} GB/s")
    if profile.watts:
        table.add_row("power", f"{_interval(profile.watts, 1)} W")
    if profile.price_per_hour:
        table.add_row("price", f"${_interval(profile.price_per_hour, 1, 2)} an hour")
    return table


def _threads(count: int) -> str:
    return {0: "device", 1: "1 thread"}.get(count, f"{count} threads")


def _interval(one: Interval | None, unit: float, digits: int | None = None) -> str:
    if one is None:
        return ""
    value, low, high = (_number(x / unit, digits) for x in (one.value, one.low, one.high))
    return f"{value} ({low}-{high})" if low != high else value


def _value(one: Interval | None, unit: float) -> str:
    return "" if one is None else _number(one.value / unit)


def _number(value: float, digits: int | None = None) -> str:
    if digits is None:
        digits = 0 if value >= 100 else 1
    return f"{value:,.{digits}f}"


def _rate(read: Mapping[int, Interval]) -> str:
    return f"{_number(max(one.value for one in read.values()) / 1e9)} GB/s" if read else ""


def _operations(rates: Mapping[int, Interval]) -> str:
    return f"{_number(max(one.value for one in rates.values()) / 1e12)} T/s" if rates else ""


def _bytes(size: int) -> str:
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size / 1024:.4g} KiB"
