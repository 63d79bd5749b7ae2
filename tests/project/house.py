"""Draws the rooms of `graphopt` on their floors, and what each imports: `python -m tests.project.house`.

Arrows go from a room to those that it imports. One that other arrows already imply (a room below imports the
same) is left out: what is drawn is the transitive reduction of the imports that are there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests._cache import ROOT
from tests.project._floors import FLOORS, KEPT_FREE, imports_of, modules, room_of

PICTURE = Path("docs/house.svg")

Graph = dict[str, frozenset[str]]

_WIDTH, _ROW, _BOX, _PAD, _GAP = 960, 74, 40, 20, 18
_LEFT, _RIGHT = 150, 780  # where rooms stand; those kept free are to their right
_LETTER = 8.2
_STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  .floor { stroke: #eaeef2 }
  .arrow { fill: none; stroke: #57606a; stroke-width: 1.3; marker-end: url(#tip) }
  .room { fill: #ddf4ff; stroke: #0969da }
  .free { fill: #ffffff; stroke: #8c959f; stroke-dasharray: 4 3 }
  text { font-family: ui-monospace, Menlo, "DejaVu Sans Mono", monospace; text-anchor: middle }
  .name { font-size: 13px; fill: #0b2e4f }
  .size { font-size: 10px; fill: #47617a }
  .later { font-size: 13px; fill: #57606a }
  .level { font-size: 10px; fill: #57606a; text-anchor: start }
"""


class Place(NamedTuple):
    """One thing of a row: a room, or the way of a long arrow past that row."""

    kind: str
    name: str

    @property
    def width(self) -> float:
        return 10 if self.kind == "way" else _width(self.name)


def imports(root: Path) -> Graph:
    """Which of the rooms below it each room of `root`/graphopt imports."""
    found: dict[str, set[str]] = {}
    for path in modules(root):
        found.setdefault(room_of(path, root), set()).update(names[0] for _, names in imports_of(path))
    graph, below = {}, set[str]()
    for floor in FLOORS:
        graph |= {room: frozenset(found[room] & below) for room in floor}
        below.update(floor)
    return graph


def reduced(graph: Mapping[str, Iterable[str]]) -> Graph:
    """`graph` without the edges that a longer way implies; it has no circles."""

    def below(room: str) -> set[str]:
        return {room}.union(*(below(other) for other in graph[room]))

    return {
        room: frozenset(o for o in others if not any(o in below(p) for p in set(others) - {o}))
        for room, others in graph.items()
    }


def lines(root: Path) -> dict[str, int]:
    """Lines of Python of each room."""
    paths = sorted(modules(root), key=lambda path: room_of(path, root))
    return {
        room: sum(len(path.read_text(encoding="utf-8").splitlines()) for path in group)
        for room, group in itertools.groupby(paths, key=lambda path: room_of(path, root))
    }


def drawing(root: Path) -> str:
    """The picture as SVG. It has its own background, so it reads the same on a light page and a dark one."""
    graph, sizes = reduced(imports(root)), lines(root)
    rows, edges = _rows(graph)
    _order(rows, edges)
    middle = _middles(rows, edges)
    top = {place: _PAD + level * _ROW for level, row in enumerate(rows) for place in row}
    parts = [_floor(level) for level in range(len(rows))]
    parts += [_arrow(way, middle, top) for way in _ways(edges)]
    parts += [_box(p.name, middle[p], top[p], sizes[p.name]) for p in top if p.kind == "room"]
    for level, floor in enumerate(reversed(FLOORS)):
        parts.append(_kept_free(level, [name for name, beside in KEPT_FREE.items() if beside in floor]))
    height = 2 * _PAD + (len(rows) - 1) * _ROW + _BOX
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            "<title>The rooms of graphopt on their floors, and which imports which</title>",
            f"<style>{_STYLE}</style>",
            '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 8 4 0 8z" fill="#57606a"/></marker>',
            f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
            *parts,
            "</svg>\n",
        )
    )


def _rows(graph: Graph) -> tuple[list[list[Place]], list[tuple[Place, Place]]]:
    """Rooms from the roof down, with a way on each floor that an arrow passes, and the edges row by row."""
    level = {room: row for row, floor in enumerate(reversed(FLOORS)) for room in floor}
    rows = [[Place("room", room) for room in floor] for floor in reversed(FLOORS)]
    edges = []
    for room, others in graph.items():
        for other in sorted(others):
            passed = range(level[room] + 1, level[other])
            ways = [Place("way", f"{room} {other} {row}") for row in passed]
            for row, way in zip(passed, ways, strict=True):
                rows[row].append(way)
            edges += itertools.pairwise([Place("room", room), *ways, Place("room", other)])
    return rows, edges


def _order(rows: list[list[Place]], edges: Sequence[tuple[Place, Place]]) -> None:
    """Order each row by where its neighbours are, and keep the order with the fewest crossings."""
    best = [list(row) for row in rows]
    fewest = _crossings(rows, edges)
    for sweep in range(24):
        at = {place: i / len(row) for row in rows for i, place in enumerate(row)}
        for row in rows if sweep % 2 else reversed(rows):
            near = {p: [at[b if a == p else a] for a, b in edges if p in (a, b)] or [at[p]] for p in row}
            row.sort(key=lambda p: sum(near[p]) / len(near[p]))
            at |= {place: (i + 0.5) / len(row) for i, place in enumerate(row)}
        if (crossings := _crossings(rows, edges)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best


def _crossings(rows: Sequence[Sequence[Place]], edges: Sequence[tuple[Place, Place]]) -> int:
    at = {place: (level, i) for level, row in enumerate(rows) for i, place in enumerate(row)}
    spans = [(at[a][0], at[a][1], at[b][1]) for a, b in edges]
    return sum(
        one[0] == two[0] and (one[1] - two[1]) * (one[2] - two[2]) < 0
        for one, two in itertools.combinations(spans, 2)
    )


def _middles(rows: Sequence[Sequence[Place]], edges: Sequence[tuple[Place, Place]]) -> dict[Place, float]:
    """Where on its row each place is: near what it is joined to, apart from what is beside it."""
    center = (_LEFT + _RIGHT) / 2
    middle = {p: center + 110 * (i - (len(row) - 1) / 2) for row in rows for i, p in enumerate(row)}
    joined: dict[Place, list[tuple[Place, int]]] = {place: [] for place in middle}
    for a, b in edges:
        straight = sum(place.kind == "way" for place in (a, b)) * 4 + 1
        joined[a].append((b, straight))
        joined[b].append((a, straight))
    for sweep in range(300):
        for row in rows if sweep % 2 else reversed(rows):
            near = [joined[place] or [(place, 1)] for place in row]
            wanted = [sum(middle[p] * w for p, w in ps) / sum(w for _, w in ps) for ps in near]
            middle |= zip(row, _apart(row, wanted), strict=True)
        ends = [end for p, x in middle.items() for end in (x - p.width / 2, x + p.width / 2)]
        off = center - (min(ends) + max(ends)) / 2
        middle = {place: x + off for place, x in middle.items()}
    return middle


def _apart(row: Sequence[Place], wanted: Sequence[float]) -> list[float]:
    """`wanted`, moved to both sides as far as boxes would overlap."""
    need = [(a.width + b.width) / 2 + _GAP for a, b in itertools.pairwise(row)]
    right, left = list(wanted), list(wanted)
    for i, apart in enumerate(need):
        right[i + 1] = max(right[i + 1], right[i] + apart)
    for i, apart in reversed(list(enumerate(need))):
        left[i] = min(left[i], left[i + 1] - apart)
    return [(a + b) / 2 for a, b in zip(left, right, strict=True)]


def _ways(edges: Sequence[tuple[Place, Place]]) -> list[list[Place]]:
    """Edges joined to whole arrows, each from a room to a room."""
    after = {a: b for a, b in edges if a.kind == "way"}
    arrows = []
    for start, place in edges:
        if start.kind == "room":
            arrow = [start, place]
            while arrow[-1].kind == "way":
                arrow.append(after[arrow[-1]])
            arrows.append(arrow)
    return arrows


def _floor(level: int) -> str:
    y = _PAD + level * _ROW + _BOX / 2
    return f'<text class="level" x="14" y="{y + 4:g}">floor {len(FLOORS) - 1 - level}</text>'


def _arrow(way: Sequence[Place], middle: Mapping[Place, float], top: Mapping[Place, int]) -> str:
    x, y = middle[way[0]], top[way[0]] + _BOX
    path = [f"M{x:.0f} {y}"]
    for place in way[1:]:
        x, y, bend = middle[place], top[place], (_ROW - _BOX) / 2
        before = float(path[-1].split()[-2].lstrip("MVC"))
        path.append(f"C{before:.0f} {y - bend:.0f} {x:.0f} {y - bend:.0f} {x:.0f} {y}")
        if place.kind == "way":
            path.append(f"L {x:.0f} {y + _BOX}")
    return (
        f'<path class="arrow" d="{" ".join(path)}"><title>{way[0].name} imports {way[-1].name}</title></path>'
    )


def _box(name: str, x: float, y: int, lines: int) -> str:
    left, width = x - _width(name) / 2, _width(name)
    return (
        f'<rect class="room" x="{left:.0f}" y="{y}" width="{width:.0f}" height="{_BOX}" rx="5"/>'
        f'<text class="name" x="{x:.0f}" y="{y + 18}">{name}</text>'
        f'<text class="size" x="{x:.0f}" y="{y + 32}">{_rounded(lines)}</text>'
    )


def _kept_free(level: int, names: Sequence[str]) -> str:
    """Rooms that are not there yet, at the right end of their floor."""
    y, right, parts = _PAD + level * _ROW, float(_WIDTH - _PAD), []
    for name in names:
        width = _width(name)
        parts.append(
            f'<rect class="free" x="{right - width:.0f}" y="{y}" width="{width:.0f}" height="{_BOX}" rx="5"/>'
            f'<text class="later" x="{right - width / 2:.0f}" y="{y + 25}">{name}</text>'
        )
        right -= width + 10
    return "".join(parts)


def _width(name: str) -> float:
    return max(80, len(name) * _LETTER + 20)


def _rounded(count: int) -> str:
    """To two digits: a picture need not change with every line."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return f"{round(count / unit) * unit:,} lines"


if __name__ == "__main__":
    (ROOT / PICTURE).write_text(drawing(ROOT), encoding="utf-8")
