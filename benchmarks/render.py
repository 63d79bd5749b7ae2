"""Render docs/performance.md, compression.md, encoders.md, vision.md and charts from benchmarks/results.

    python benchmarks/render.py                # or: make performance
    python benchmarks/render.py --check        # exit 1 where they are not what the results say

So is graphopt/planner/damages.json, what bits usually cost in accuracy.

Prose is in NAME.md.jinja, which holds no figure: each comes from a file of benchmarks/results. The rest of
docs/coverage.md is `tests.corpus.table`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _compression_page
import _coverage_page
import _encoder_page
import _hosting_page
import _page
import _planned_page
import _prediction_page
import _scatter
import _sweep_page
import _vision_page
import jinja2
from _charts import DARK, LIGHT, Theme, svg
from _lms import LMS
from _performance import ENCODERS, EXPORTED, LARGE, OURS, PEERS, charts
from _results import RESULTS
from _typical import typical

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = ("performance", "compression", "encoders", "vision", "cost")


def rendered(results: Path, docs: Path = DOCS) -> dict[Path, str]:
    """The pages and their charts, by the path they belong at."""
    parts = (performance, compression, encoders, vision, coverage, cost, predictions, sweeps)
    return {path: text for part in parts for path, text in part(results, docs).items()}


def performance(results: Path, docs: Path) -> dict[Path, str]:
    figures = _page.Figures(results, HERE / "goals.json")
    drawn = charts(figures)
    names = {
        "figures": figures,
        "say": figures.say,
        "command": figures.command,
        "plain": _page.plain,
        "sources": partial(_page.sources, figures),
        "goals": partial(_page.goals, figures),
        "generation": partial(_page.generation, figures, (OURS, *PEERS), LARGE, 1, 256),
        "bounds": partial(_page.bounds, figures, LARGE),
        "verdicts": partial(_page.verdicts, figures),
        "encoders": partial(_page.encoders, figures, (*ENCODERS[:3], EXPORTED, *ENCODERS[3:])),
    }
    return page("performance", names, drawn, svg, docs)


def compression(results: Path, docs: Path) -> dict[Path, str]:
    figures = _page.Figures(results, _compression_page.GOALS, _page.COMPRESSION)
    chart = _compression_page.pareto(figures)
    names = {
        "figures": figures,
        "models": LMS,
        "sources": partial(_page.sources, figures, "allocation", "cost", "long", "quality"),
        "long": partial(_compression_page.long, figures),
        "long_texts": partial(_compression_page.long_texts, figures),
        "corrector": partial(_compression_page.corrector, figures),
        "plans": partial(_compression_page.plans, figures),
        "judged": partial(_compression_page.judged, figures),
        "goals": partial(_compression_page.goals, figures),
        "single_goals": partial(_compression_page.single_goals, figures),
        "quality": partial(_compression_page.quality, figures),
        "costs": partial(_compression_page.costs, figures),
    }
    return page("compression", names, [chart], _scatter.svg, docs)


def encoders(results: Path, docs: Path) -> dict[Path, str]:
    figures = _page.Figures(results, _encoder_page.GOALS, _encoder_page.FILES)
    names = {
        "figures": figures,
        "sources": partial(_page.sources, figures),
        "goals": partial(_encoder_page.goals, figures),
        "calls": {name: _encoder_page.calls(figures, name) for name in _encoder_page.CALLS},
        "commands": _encoder_page.commands(figures),
    }
    return page("encoders", names, [], svg, docs)


def vision(results: Path, docs: Path) -> dict[Path, str]:
    figures = _page.Figures(results, _vision_page.GOALS, _vision_page.FILES)
    names = {
        "figures": figures,
        "sources": partial(_page.sources, figures),
        **{
            one.__name__: partial(one, figures)
            for one in (
                _vision_page.accuracy,
                _vision_page.failures,
                _vision_page.goals,
                _vision_page.images,
                _vision_page.sizes,
                _vision_page.speeds,
            )
        },
    }
    return page("vision", names, [], svg, docs)


def coverage(results: Path, docs: Path) -> dict[Path, str]:
    """docs/coverage.md with its section about exported nets as it is measured."""
    table = _coverage_page.table_of(results)
    if table is None:
        return {}
    names = {
        "title": _coverage_page.TITLE,
        "count": len(table.rows),
        "families": len({row["family"] for row in table.rows}),
        "date": table.date,
        "rounds": table.rounds,
        "machine": table.machine,
        "asked": _coverage_page.asked(table),
        "nets": _coverage_page.nets(table),
        "refused": _coverage_page.refused(table),
    }
    text = _environment().get_template("coverage.md.jinja").render(names)
    path = DOCS / "coverage.md"
    return {docs / "coverage.md": _coverage_page.replaced(path.read_text(encoding="utf-8"), text)}


def cost(results: Path, docs: Path) -> dict[Path, str]:
    """docs/cost.md, where benchmarks/hosting.py was run."""
    if not (results / "plans" / "hosting.json").is_file():
        return {}
    found = _hosting_page.Hosting(results / "plans" / "hosting.json")
    names = {
        "data": found.data,
        "plans": found.plans(),
        "areas": found.areas(),
        "sources": found.sources(),
    }

    def draw(chart: Any, theme: Theme) -> str:
        return (_scatter.svg if isinstance(chart, _scatter.Scatter) else svg)(chart, theme)

    return page("cost", names, [found.prices(), found.contributions()], draw, docs)


def predictions(results: Path, docs: Path) -> dict[Path, str]:
    """docs/predictions.md, once something was measured."""
    found = _prediction_page.results_of(results)
    if found is None:
        return {}
    names = {
        "about": _prediction_page.about(found),
        "goals": _prediction_page.goals(found),
        "summary": _prediction_page.summary(found),
        "ranking": _prediction_page.ranking(found),
        "points": list(_prediction_page.points(found)),
        "sizes": list(_prediction_page.sizes(found)),
        "notes": found.notes,
        "planned": _planned_page.section(results),
    }
    return page("predictions", names, [], svg, docs)


def sweeps(results: Path, docs: Path) -> dict[Path, str]:
    """docs/sweeps.md with its section about what a sweep costs as it is measured."""
    table = _sweep_page.table_of(results)
    if table is None:
        return {}
    names = {
        "title": _sweep_page.TITLE,
        "date": table.date,
        "machine": table.machine,
        "ray": table.versions["ray"],
        "optuna": table.versions["optuna"],
        "sweeps": _sweep_page.sweeps(table),
    }
    text = _environment().get_template("sweep.md.jinja").render(names)
    whole = (DOCS / "sweeps.md").read_text(encoding="utf-8")
    return {docs / "sweeps.md": _coverage_page.replaced(whole, text, _sweep_page.TITLE)}


def page(
    name: str, names: dict[str, Any], drawn: Sequence[Any], draw: Callable[[Any, Theme], str], docs: Path
) -> dict[Path, str]:
    """A page and its charts, which are in the folder of its name."""
    found = {
        docs / name / f"{chart.name}-{theme.name}.svg": draw(chart, theme)
        for chart in drawn
        for theme in (LIGHT, DARK)
    }
    titles = {chart.name: chart.title for chart in drawn}
    shown = {"chart": lambda one: picture(f"{name}/{one}", titles[one])}
    found[docs / f"{name}.md"] = _environment().get_template(f"{name}.md.jinja").render(names | shown)
    return found


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def picture(path: str, title: str) -> str:
    """The chart in the reader's theme."""
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{path}-dark.svg">'
    return f'<picture>{source}<img alt="{title}" src="{path}-light.svg"></picture>'


def stale(found: dict[Path, str], docs: Path = DOCS) -> list[Path]:
    """What is not in `docs` as rendered, or is there and no more rendered."""
    there = {path for name in PAGES for path in (docs / name).glob("*.svg")}
    other = {
        path for path, text in found.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    return sorted(other | (there - found.keys()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    found = rendered(RESULTS) | typical(RESULTS)
    others = stale(found)
    if args.check:
        for path in others:
            print(f"{path.relative_to(HERE.parent)} is not what the results render to: make performance")
        sys.exit(1 if others else 0)
    for path in others:
        if path in found:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found[path], encoding="utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    main()
