"""Tables and charts of docs/cost.md, from what `graphopt plan --machines` said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from _charts import Chart, Panel, Series
from _scatter import Group, Plane, Scatter

from graphopt.metrics import Estimate

__all__ = ["Hosting"]

_UNITS = {"tpot": (1e3, "ms"), "usd_per_mtok_in": (1, ""), "usd_per_mtok_out": (1, "")}


class Hosting:
    """What the results say, as Markdown and charts."""

    def __init__(self, path: Path) -> None:
        self.data: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(one["model"] for one in self.data["hosted"]))

    @property
    def machines(self) -> list[str]:
        return [one["name"] for one in self.data["machines"]]

    def plans(self) -> str:
        """A row for each model and machine."""
        lines = ["| model | machine | plan | ms a token | $ in | $ out | break-even |", "|" + "---|" * 7]
        for one in self.data["hosted"]:
            plan = one["plan"]
            if plan is None:
                lines.append(f"| {one['model']} | {one['machine']} | none: {one['refused']} | | | | |")
                continue
            count = f"{plan['devices']} x " if plan["devices"] > 1 else ""
            recipe = " ".join([plan["recipe"], *plan["within"]])
            batch = f", {plan['batch']} texts" if plan["batch"] > 1 else ""
            cells = [self._cell(plan["metrics"], key) for key in _UNITS]
            lines.append(
                f"| {one['model']} | {count}{one['machine']} | `{recipe}`{batch} | {' | '.join(cells)} | "
                f"{self._even(one['break_even_utilization'])} |"
            )
        return "\n".join(lines)

    def areas(self) -> str:
        """By model and machine, how many times cheaper each area makes a token."""
        heads = list(dict.fromkeys(area["name"] for one in self.data["hosted"] for area in one["areas"]))
        lines = [f"| model | machine | {' | '.join(heads)} |", "|" + "---|" * (2 + len(heads))]
        for one in self.data["hosted"]:
            if one["areas"]:
                times = {area["name"]: f"{area['times']:.3g}" for area in one["areas"]}
                cells = " | ".join(times.get(name, "") for name in heads)
                lines.append(f"| {one['model']} | {one['machine']} | {cells} |")
        return "\n".join(lines)

    def sources(self) -> str:
        """Where each machine's numbers are from."""
        return "\n".join(self._sources())

    def _sources(self) -> Iterator[str]:
        for one in self.data["machines"]:
            price = one["price_per_hour"]
            paid = _paid(price) if price else "no price"
            if one["kind"] == "measured":
                measured = f"measured by `graphopt targets profile` on {one['date']}"
                yield f"- **{one['name']}**: {measured}; {paid}, which is assumed"
                continue
            yield f"- **{one['name']}**: {paid}"
            for key, source in one["sources"].items():
                title = f"[{source['title']}]({source['address']})" if source["address"] else source["title"]
                date = f", {source['date']}" if source["date"] else ""
                yield f"  - `{key}`: {title}, {source['publisher']}{date}. {source['says']}".rstrip()

    def prices(self) -> Scatter:
        """Dollars for a million tokens written, by size of the model, on each machine."""
        groups = []
        for machine in self.machines:
            points = {
                one["model"]: (_billions(one["model"]), _estimate(one["plan"]["metrics"]["usd_per_mtok_out"]))
                for one in self.data["hosted"]
                if one["machine"] == machine and one["plan"] is not None
            }
            if points:
                groups.append(Group(machine, points))
        title = f"A million tokens written; the API asks ${self.data['api_out']:g}"
        planes = [Plane(title, groups)]
        return Scatter("prices", "What a written token costs", planes, "billions of parameters", "dollars")

    def contributions(self) -> Chart:
        """How many times cheaper each area makes a token."""
        panels = []
        for machine in self.machines:
            named: dict[str, dict[str, Estimate | float]] = {}
            for one in self.data["hosted"]:
                for area in one["areas"] if one["machine"] == machine else ():
                    named.setdefault(area["name"], {})[one["model"]] = area["times"]
            if named:
                panels.append(Panel(machine, [Series(key, value) for key, value in named.items()], "times"))
        return Chart("areas", "What each area contributes, times cheaper", self.models, panels)

    def _cell(self, metrics: Mapping[str, Any], key: str) -> str:
        scale, _ = _UNITS[key]
        one = metrics[key]
        value, low, high = (f"{one[end] * scale:.3g}" for end in ("value", "low", "high"))
        return f"{value} [{low}, {high}]"

    def _even(self, interval: Mapping[str, float] | None) -> str:
        if interval is None:
            return ""
        if interval["value"] > 1:
            return "never"
        value, low, high = (_percent(interval[end]) for end in ("value", "low", "high"))
        return f"{value} [{low}, {high}]"


def _percent(share: float) -> str:
    """Two digits, of large ones all before the point."""
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"


def _estimate(interval: Mapping[str, float]) -> Estimate:
    return Estimate(interval["value"], interval["low"], interval["high"])


def _billions(model: str) -> float:
    """As shapes are named: "llama-3.1-8b"."""
    found = re.search(r"([\d.]+)b$", model)
    assert found is not None
    return float(found[1])


def _paid(price: Mapping[str, float]) -> str:
    exact = price["low"] == price["high"]
    spread = "" if exact else f" ({price['low']:g} to {price['high']:g})"
    return f"${price['value']:g} an hour{spread}"
