"""Charts of two quantities against each other, in the manner of _charts.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from _charts import MARKERS, WIDTH, Theme, layout, said, style, written
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from graphopt.metrics import Estimate

_HEIGHT = 4.4


@dataclass(frozen=True)
class Group:
    """Points (x, y) by name that belong together; the first color is the first group's."""

    name: str
    points: Mapping[str, tuple[float, Estimate]]


@dataclass(frozen=True)
class Plane:
    title: str
    groups: Sequence[Group]


@dataclass(frozen=True)
class Scatter:
    """Planes side by side with common axes, of which that of y is logarithmic."""

    name: str
    title: str
    planes: Sequence[Plane]
    x: str
    y: str

    def description(self) -> str:
        """All that is drawn, as text."""
        parts = []
        for plane in self.planes:
            points = [(name, *at) for group in plane.groups for name, at in group.points.items()]
            texts = [f"{name}: {x:.3g} and {said(y)}" for name, x, y in points]
            parts.append(f"{plane.title}, {self.x} and {self.y}. {'; '.join(texts)}.")
        return " ".join(parts)


def svg(chart: Scatter, theme: Theme) -> str:
    """The chart in a theme."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever settings whoever renders has
        mpl.rcParams.update(style(theme))
        figure = Figure(figsize=(WIDTH, _HEIGHT), layout=layout())
        axes = figure.subplots(1, len(chart.planes), sharex=True, sharey=True, squeeze=False)[0]
        axes[0].set_ylabel(chart.y)
        names = list(dict.fromkeys(group.name for plane in chart.planes for group in plane.groups))
        looks = {
            name: (theme.series[i % len(theme.series)], MARKERS[i % len(MARKERS)])
            for i, name in enumerate(names)
        }
        for one, plane in zip(axes, chart.planes, strict=True):
            _draw(one, plane, looks)
            one.set_xlabel(chart.x)
        marks = [
            Line2D([], [], color=color, marker=marker, linestyle="", label=name)
            for name, (color, marker) in looks.items()
        ]
        figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False)
        return written(figure, chart)


def _draw(axes: Axes, plane: Plane, looks: Mapping[str, tuple[str, str]]) -> None:
    axes.set_yscale("log")
    for group in plane.groups:
        color, marker = looks[group.name]
        ordered = sorted(group.points.values(), key=lambda at: at[0])
        middle = [y.value for _, y in ordered]
        spread = [[y.value - y.low for _, y in ordered], [y.high - y.value for _, y in ordered]]
        axes.errorbar(
            [x for x, _ in ordered], middle, yerr=spread, color=color, marker=marker, markersize=5,
            linewidth=0.8, elinewidth=1.4, capsize=2.5,
        )  # fmt: skip
    axes.set_title(plane.title, loc="left")
    axes.yaxis.set_major_locator(LogLocator(10))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
