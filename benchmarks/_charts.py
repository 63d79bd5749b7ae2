"""Charts of results as SVG, by matplotlib: the same bytes for the same figures.

A row of a chart is one that is compared, a panel a quantity, a series a circumstance (length of the prompt,
say). Whiskers are 95 % intervals. Text stays text, at 10 pt; one file is for light pages and one for
dark ones, because an image does not see which theme a page has.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from graphopt.metrics import Estimate

WIDTH = 8.4
"""Inches: 806 CSS pixels, what a document on a code host has, so that 10 pt are shown as 10 pt."""
_ROW, _SERIES, _AROUND = 0.2, 0.13, 1.25
"""Inches of height: of a row, of each of its series, and of what is around the rows."""
FONTS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
_AIR = {"w_pad": 0.1, "h_pad": 0.1, "wspace": 0.04}
"""Inches around a panel, and the share of the width between two: ticks at their ends do not touch."""
MARKERS = "osD^vP"
_FEW = 2.5
"""Powers of two between the ends of an axis that are too few to read values by."""
_BESIDE = 1.08
"""Factor of room beyond the last tick: a marker's half is 2.5 points of some 200."""


@dataclass(frozen=True)
class Theme:
    name: str
    text: str
    grid: str
    series: tuple[str, ...]
    control: str


LIGHT = Theme(
    "light",
    "#1f2328",
    "#d1d9e0",
    ("#0550ae", "#bc4c00", "#6639ba", "#1a7f37", "#a40e26", "#6e5600"),
    "#59636e",
)
DARK = Theme(
    "dark",
    "#f0f6fc",
    "#3d444d",
    ("#79c0ff", "#ffa657", "#d2a8ff", "#7ee787", "#ff9492", "#e3b341"),
    "#9198a1",
)


@dataclass(frozen=True)
class Series:
    """Values by row; a row that is not there was not measured. A control is drawn as one."""

    name: str
    points: dict[str, Estimate | float]
    control: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    series: Sequence[Series]
    unit: str
    ratio: bool = True
    """Drawn by factors, with a line at 1, where both are equally fast."""
    bars: bool = False

    def ends(self) -> list[float]:
        """Of all values and their intervals."""
        values = [value for one in self.series for value in one.points.values()]
        pairs = [(v.low, v.high) if isinstance(v, Estimate) else (v, v) for v in values]
        return [end for pair in pairs for end in pair]


@dataclass(frozen=True)
class Chart:
    name: str
    title: str
    rows: Sequence[str]
    panels: Sequence[Panel]
    controls: Sequence[str] = ()
    """Rows that are a control: what differs there differs without a cause."""
    rows_are: str = ""

    def description(self) -> str:
        """All that is drawn, as text."""
        parts = []
        for panel in self.panels:
            texts = []
            for row in self.rows:
                found = [f"{s.name} {said(s.points[row])}" for s in panel.series if row in s.points]
                texts += [f"{row}: {', '.join(found)}"] if found else []
            parts.append(f"{panel.title}. {'; '.join(texts)}.")
        return _short(" ".join(parts))


def svg(chart: Chart, theme: Theme) -> str:
    """The chart in a theme."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever settings whoever renders has
        mpl.rcParams.update(style(theme))
        most = max(len(panel.series) for panel in chart.panels)
        height = _AROUND + len(chart.rows) * (_ROW + _SERIES * most)
        figure = Figure(figsize=(WIDTH, height), layout=layout())
        axes = figure.subplots(1, len(chart.panels), sharey=True, squeeze=False)[0]
        axes[0].set_ylabel(chart.rows_are)
        ratios = ticks([end for panel in chart.panels if panel.ratio for end in panel.ends()])
        for one, panel in zip(axes, chart.panels, strict=True):
            _draw(one, chart, panel, theme)
            _scale(one, panel, ratios, theme)
        _legend(figure, chart, theme)
        return written(figure, chart)


def layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(**_AIR)


def style(theme: Theme) -> dict[str, Any]:
    colors = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), theme.text
    )
    return colors | {
        "axes.edgecolor": theme.grid,
        "axes.titlesize": 10,
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "grid.color": theme.grid,
        "svg.fonttype": "none",
        "svg.hashsalt": "graphopt",
        "xtick.color": theme.grid,
    }


def _draw(axes: Axes, chart: Chart, panel: Panel, theme: Theme) -> None:
    count = len(panel.series)
    height = 0.72 / count
    for number, series in enumerate(panel.series):
        color = theme.control if series.control else theme.series[number % len(theme.series)]
        for at, row in enumerate(chart.rows):
            if row in series.points:
                y = at + (number - (count - 1) / 2) * height
                shade = theme.control if row in chart.controls else color
                marker = MARKERS[number % len(MARKERS)]
                _point(axes, y, series.points[row], shade, height if panel.bars else None, marker)
    axes.set_ylim(len(chart.rows) - 0.5, -0.5)
    axes.set_yticks(range(len(chart.rows)), chart.rows)
    axes.tick_params(axis="y", length=0)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.unit)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _scale(axes: Axes, panel: Panel, ratios: Sequence[float], theme: Theme) -> None:
    if panel.ratio:
        axes.axvline(1, color=theme.control, linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlim(ratios[0] / _BESIDE, ratios[-1] * _BESIDE)
        axes.xaxis.set_major_locator(FixedLocator(list(ratios)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        axes.set_xlim(0, 100 if panel.unit == "%" else max(panel.ends()) * _BESIDE)
        axes.xaxis.set_major_locator(MaxNLocator(5))


def ticks(ends: Sequence[float]) -> list[float]:
    """Powers of two around all of `ends` and 1, and where these are few 1.5 times them, too."""
    if not ends:
        return []
    low, high = (math.log2(f([*ends, 1.0])) for f in (min, max))
    steps = (0.0, math.log2(1.5)) if high - low < _FEW else (0.0,)
    every = sorted(2 ** (k + step) for k in range(math.floor(low) - 1, math.ceil(high) + 2) for step in steps)
    first = max(x for x in every if x <= 2**low * _BESIDE)
    last = min(x for x in every if x >= 2**high / _BESIDE)
    return [x for x in every if first <= x <= last]


def _point(
    axes: Axes, y: float, value: Estimate | float, color: str, height: float | None, marker: str
) -> None:
    middle = value.value if isinstance(value, Estimate) else value
    if height is not None:
        axes.barh(y, middle, height=height * 0.85, color=color, linewidth=0)
        return
    spread = None
    if isinstance(value, Estimate):
        spread = [[middle - value.low], [value.high - middle]]
    axes.errorbar(
        middle, y, xerr=spread, color=color, marker=marker, markersize=5, linewidth=1.4, capsize=2.5
    )


def _legend(figure: Figure, chart: Chart, theme: Theme) -> None:
    """One for all panels, below them, where there is more than one series."""
    panel = max(chart.panels, key=lambda panel: len(panel.series))
    if len(panel.series) < 2:
        return
    marks = []
    for number, series in enumerate(panel.series):
        color = theme.control if series.control else theme.series[number % len(theme.series)]
        marker = "s" if panel.bars else MARKERS[number % len(MARKERS)]
        marks.append(Line2D([], [], color=color, marker=marker, linestyle="", label=series.name))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)


class Described(Protocol):
    """What a chart says in words."""

    @property
    def title(self) -> str: ...

    def description(self) -> str: ...


def written(figure: Figure, chart: Described) -> str:
    """SVG that says what it shows, in the reader's fonts, with as few digits as all processors agree on."""
    out = io.StringIO()
    figure.savefig(
        out,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", out.getvalue(), flags=re.DOTALL)
    text = text.replace("'DejaVu Sans'", FONTS)
    names: dict[str, str] = {}
    for name in re.findall(r'id="([a-zA-Z][0-9a-f]{10})"', text):
        names.setdefault(name, f"i{len(names)}")
    text = re.sub("|".join(names), lambda m: names[m[0]], text) if names else text
    about = f"<title>{escape(chart.title)}</title>\n <desc>{escape(chart.description())}</desc>"
    return re.sub(r"(<svg [^>]*)>", lambda m: f'{m[1]} role="img">\n {about}', _short(text), count=1)


def _short(text: str) -> str:
    """Numbers of three digits and more after the point with two."""
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", text)


def said(value: Estimate | float) -> str:
    if isinstance(value, Estimate):
        return f"{value.value:g} [{value.low:g}, {value.high:g}]"
    return f"{value:g}"
