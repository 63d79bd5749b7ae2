"""Render docs/performance.md and its charts from benchmarks/results.

    python benchmarks/render.py                # or: make performance
    python benchmarks/render.py --check        # exit 1 where they are not what the results say

Prose is in performance.md.jinja, which holds no figure: each comes from a results file.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import _page
import jinja2
from _charts import DARK, LIGHT, svg
from _performance import ENCODERS, EXPORTED, LARGE, OURS, PEERS, charts
from _results import RESULTS

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def rendered(results: Path, docs: Path = DOCS) -> dict[Path, str]:
    """The page and its charts, by the path they belong at."""
    figures = _page.Figures(results, HERE / "goals.json")
    drawn = charts(figures)
    found = {
        docs / "performance" / f"{chart.name}-{theme.name}.svg": svg(chart, theme)
        for chart in drawn
        for theme in (LIGHT, DARK)
    }
    titles = {chart.name: chart.title for chart in drawn}
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    names = {
        "figures": figures,
        "say": figures.say,
        "command": figures.command,
        "plain": _page.plain,
        "chart": lambda name: picture(name, titles[name]),
        "sources": partial(_page.sources, figures),
        "goals": partial(_page.goals, figures),
        "generation": partial(_page.generation, figures, (OURS, *PEERS), LARGE, 1, 256),
        "bounds": partial(_page.bounds, figures, LARGE),
        "verdicts": partial(_page.verdicts, figures),
        "encoders": partial(_page.encoders, figures, (*ENCODERS[:3], EXPORTED, *ENCODERS[3:])),
    }
    found[docs / "performance.md"] = environment.get_template("performance.md.jinja").render(names)
    return found


def picture(name: str, title: str) -> str:
    """The chart in the reader's theme."""
    source = f'<source media="(prefers-color-scheme: dark)" srcset="performance/{name}-dark.svg">'
    return f'<picture>{source}<img alt="{title}" src="performance/{name}-light.svg"></picture>'


def stale(found: dict[Path, str], docs: Path = DOCS) -> list[Path]:
    """What is not in `docs` as rendered, or is there and no more rendered."""
    there = {*(docs / "performance").glob("*.svg")}
    other = {
        path for path, text in found.items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    return sorted(other | (there - found.keys()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    found = rendered(RESULTS)
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
