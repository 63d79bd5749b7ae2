"""The picture of the house is that of the present imports."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tests._cache import ROOT
from tests.project._floors import FLOORS, KEPT_FREE
from tests.project.house import PICTURE, drawing, imports, reduced

_SIZE = re.compile(r'(?<=<text class="size")([^>]*>)[^<]*')
_SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_that_of_the_imports() -> None:
    drawn, now = (ROOT / PICTURE).read_text(encoding="utf-8"), drawing(ROOT)
    assert _SIZE.sub(r"\1", drawn) == _SIZE.sub(r"\1", now), "draw it: python -m tests.project.house"


def test_another_import_is_another_picture(tmp_path: Path) -> None:
    for floor in FLOORS:
        for room in floor:
            path = tmp_path / "graphopt" / f"{room}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text("")
    before = drawing(tmp_path)
    (tmp_path / "graphopt" / "cli.py").write_text("def f():\n    from graphopt.ir import text\n")
    assert "cli imports ir" not in before
    assert "cli imports ir" in drawing(tmp_path)
    assert imports(tmp_path)["cli"] == {"ir"}


def test_what_a_longer_way_implies_is_left_out() -> None:
    graph = {"a": "bcd", "b": "c", "c": "d", "d": ""}
    assert reduced(graph) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}


def test_every_room_is_drawn_apart_from_the_others() -> None:
    picture = ElementTree.fromstring(drawing(ROOT))
    boxes = [box for box in picture.iter(f"{_SVG}rect") if box.get("class") in ("room", "free")]
    _, _, width, height = map(float, (picture.get("viewBox") or "").split())
    assert len(boxes) == sum(map(len, FLOORS)) + len(KEPT_FREE)
    places = [tuple(float(box.get(key) or "") for key in ("x", "y", "width", "height")) for box in boxes]
    for x, y, w, h in places:
        assert x >= 60
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
    for i, (x, y, w, h) in enumerate(places):
        assert not any(x < a + c and a < x + w and y < b + d and b < y + h for a, b, c, d in places[:i])


def test_rooms_kept_free_are_not_there() -> None:
    assert not set(KEPT_FREE) & {room for floor in FLOORS for room in floor}
    assert set(KEPT_FREE.values()) <= {room for floor in FLOORS for room in floor}
