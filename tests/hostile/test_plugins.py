"""Installed plugins of every wrong kind: each is left out, or named as what failed; the tool goes on.

`make fuzz` tries more, other ones each time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from tests.hostile._limited import Outcome, run_limited
from tests.hostile._mutations import ALWAYS, damage
from tests.hostile.test_packages import MODEL

EXAMPLES = int(os.environ.get("FUZZ", "0")) // 20 or 6
HEAD = """from pathlib import Path
from graphopt.families import Family
from graphopt.pipeline import Contract, Edit, Level, Pass
from graphopt.plugins import Pack
from graphopt.targets import Target
class Mine(Pass):
    "My own [/pass]."
    name, level, contract = "mine", Level.IMPROVE, Contract.exact()
    def edits(self, graph, context):
        yield from ()
"""
PASS = HEAD + "PACK = Pack(passes=(Mine,))\n"
POINTS = "[graphopt.passes]\nbad = bad:PACK\n"
METADATA = "Metadata-Version: 2.1\nName: graphopt-bad\nVersion: 0.1\n"
LEFT_OUT = {
    "a custom exit": "class E(BaseException): pass\nraise E('[/bold]')\n",
    "no memory": "raise MemoryError\n",
    "no syntax": "def\n",
    "no text": "\\udcff = 1\n",
    "no classes": HEAD + "PACK = Pack(passes=('cse',))\n",
    "no tuple": HEAD + "PACK = Pack(passes=Mine)\n",
    "no pass": HEAD + "class M:\n    name, level, contract = 'm', Level.RAISE, 1\nPACK = Pack(passes=(M,))\n",
    "no name": HEAD + "Mine.name = 7\nPACK = Pack(passes=(Mine,))\n",
    "no edits": HEAD + "class M(Pass):\n    name, level, contract = 'm', Mine.level, Mine.contract\n"
    "PACK = Pack(passes=(M,))\n",
    "no target": HEAD + "PACK = Pack(targets=(Mine,))\n",
    "no tasks": HEAD + "class F(Family):\n    name, tasks = 'f', None\nPACK = Pack(families=(F,))\n",
    "no folder": HEAD + "PACK = Pack(recipes='recipes')\n",
    "no models": HEAD + "PACK = Pack(models={'m': 'folder'})\n",
}
# Passes that fail once they run: the code, and what is said.
FAILING = {
    "raises": (
        "        raise KeyError('no such thing')\n",
        4,
        "plugin 'bad' of graphopt-bad 0.1 failed: KeyError",
    ),
    "helps itself": ("        yield Edit('e', remove=5)\n", 4, "failed: TypeError"),
    "is no generator": ("        return [Edit('e')]\n", 1, "are no generator"),
    "proposes a text": ("        yield 'an edit'\n", 1, "proposes what is no edit: 'an edit'"),
}
COMMANDS = (
    ("passes", "list"),
    ("passes", "show", "mine"),
    ("passes", "check", "graphopt-bad"),
    ("passes", "new", "another"),
    ("targets", "list"),
    ("targets", "show", "cpu"),
    ("models", "list"),
    ("models", "new", "another"),
    ("optimize", "net.onnx", "-o", "out", "--quiet", "--no-validate", "--recipe", "lossless"),
)


def install(site: Path, source: str, points: str = POINTS, metadata: str = METADATA) -> None:
    info = site / "graphopt_bad-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "bad.py").write_text(source)
    (info / "entry_points.txt").write_text(points)
    (info / "METADATA").write_text(metadata)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model in it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    onnx.save(parser.parse_model(MODEL), folder / "net.onnx")
    return folder


def ask(place: Path, *arguments: str) -> Outcome:
    done = run_limited(arguments, place, site=place.parent / "site")
    assert "Traceback" not in done.err, done.err
    return done


def test_a_plugin_that_is_right_is_used(place: Path) -> None:
    install(place.parent / "site", PASS)
    done = ask(place, "passes", "list")
    assert (done.code, done.err) == (0, "")
    assert "My own [/pass]." in done.out


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_cannot_be_used_is_left_out(place: Path, name: str) -> None:
    install(place.parent / "site", LEFT_OUT[name])
    done = ask(place, "passes", "list")
    assert done.code == 0
    assert "plugin 'bad' of graphopt-bad 0.1 is left out" in done.err
    assert "lossless" in done.out


@pytest.mark.parametrize(
    ("points", "metadata"),
    [
        ("[graphopt.passes]\nbad = ???\n", METADATA),
        ("[graphopt.passes]\nbad =\n", METADATA),
        ("[graphopt.passes]\nbad\n", METADATA),
        ("bad = bad:PACK\n", METADATA),
        (POINTS, ""),
        (POINTS, "Name:\nVersion:\n"),
        (POINTS, "Name: [/x]\nVersion: \x1b[31m\n"),
    ],
)
def test_wrong_metadata_stops_nobody(place: Path, points: str, metadata: str) -> None:
    install(place.parent / "site", PASS, points, metadata)
    done = ask(place, "passes", "list")
    assert done.code == 0
    assert "lossless" in done.out
    assert "\x1b" not in done.out


def test_metadata_that_is_no_text_stops_nobody(place: Path) -> None:
    install(place.parent / "site", PASS)
    (place.parent / "site" / "graphopt_bad-0.1.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe")
    done = ask(place, "passes", "list")
    assert done.code == 0
    assert "warning: an installed distribution is left out" in done.err


@pytest.mark.parametrize("name", FAILING)
def test_a_pass_that_fails_is_named(place: Path, name: str) -> None:
    body, code, said = FAILING[name]
    install(place.parent / "site", PASS.replace("        yield from ()\n", body))
    (place / "r.toml").write_text('[[pass]]\nname = "mine"\n')
    done = ask(place, "optimize", "net.onnx", "-o", "out", "--quiet", "--recipe", "r.toml")
    assert done.code == code, done.err
    assert said in done.err


def test_a_pass_that_fails_does_not_conform(place: Path) -> None:
    body, _, _ = FAILING["helps itself"]
    install(place.parent / "site", PASS.replace("        yield from ()\n", body))
    done = ask(place, "passes", "check", "graphopt-bad", "--quiet", "--json", "-")
    assert (done.code, '"promise": "completes"' in done.out) == (1, True), done.err


def test_examples_that_cannot_be_read_are_a_broken_promise(place: Path) -> None:
    examples = "PACK = Pack(passes=(Mine,), examples=Path(__file__).with_name('examples'))\n"
    install(place.parent / "site", HEAD + examples)
    folder = place.parent / "site" / "examples"
    folder.mkdir()
    (folder / "a.txt").write_text("pass: mine\noptions: {\n--- before\ng () => () {}\n--- unmatched\n")
    done = ask(place, "passes", "check", "graphopt-bad", "--quiet", "--json", "-")
    assert (done.code, '"promise": "examples"' in done.out) == (1, True), done.err
    (folder / "a.txt").write_bytes(b"\xff")
    done = ask(place, "passes", "check", "graphopt-bad", "--quiet")
    assert (done.code, "a.txt is not UTF-8" in done.err) == (2, True)


@settings(ALWAYS, max_examples=EXAMPLES)
@given(st.data(), st.sampled_from(COMMANDS))
def test_damaged_plugins_stop_no_command_by_a_bug(data: st.DataObject, command: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        site, folder = Path(name) / "site", Path(name) / "folder"
        folder.mkdir()
        onnx.save(parser.parse_model(MODEL), folder / "net.onnx")
        install(site, PASS)
        files = sorted(path for path in site.rglob("*") if path.is_file())
        damage(data.draw(st.sampled_from(files)), data)
        done = ask(folder, *command)
        assert done.code in (0, 1, 2, 4), f"{command}: {done.code}\n{done.err}"
