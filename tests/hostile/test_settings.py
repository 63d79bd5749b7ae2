"""What commands find where they are called: a graphopt.toml, a cache, an earlier search, odd paths.

`make fuzz` tries more, other ones each time.
"""

from __future__ import annotations

import json
import os
import shutil
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

EXAMPLES = int(os.environ.get("FUZZ", "0")) // 20 or 3
LONG = "a" * 5000
ALLOW = '[plugins]\nallow = ["graphopt-sample"]\n'
DEEP = "x = " + "[" * 100_000
SEARCH = ("bisect", "net.onnx", "-o", "work", "--recipe", "lossless", "--quiet", "--json", "-")
# Judges without a Python of its own: whether the activation became one node.
CHECK = "! grep -q QuickGelu $GRAPHOPT_PACKAGE/model.onnx"


def ask(folder: Path, *arguments: str, **environment: str) -> Outcome:
    done = run_limited(arguments, folder, environment=environment)
    assert "Traceback" not in done.err, done.err
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in it, and a file."""
    folder = tmp_path_factory.mktemp("place") / "folder"
    folder.mkdir()
    onnx.save(parser.parse_model(MODEL), folder / "net.onnx")
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("inspect", LONG), 2),
        (("inspect", "file/net.onnx"), 2),
        (("inspect", "\udcff.onnx"), 2),
        (("inspect", "net.onnx", "--json", "."), 2),
        (("diff", "net.onnx", LONG), 2),
        (("export", LONG, "-o", "out"), 2),
        (("export", "net.onnx", "-o", LONG), 2),
        (("export", "net.onnx", "-o", "file/out"), 2),
        (("export", "net.onnx", "-o", "\udcff"), 2),
        (("optimize", "net.onnx", "--recipe", f"{LONG}.toml"), 2),
        (("optimize", "net.onnx", "--locked", LONG), 2),
        (("optimize", "net.onnx", "--explain", LONG), 2),
        (("optimize", "net.onnx", "--set", LONG), 2),
        (("optimize", "net.onnx", "--recipe", "lossless", "--set", f"cse.x={'9' * 5000}"), 2),
        (("optimize", "net.onnx", "--stop-after", f"cse:{'9' * 5000}"), 2),
        (("optimize", "net.onnx", "--dim", f"N={'9' * 5000}"), 2),
        (("optimize", "net.onnx", "--dim", "N=²"), 2),
        (("optimize", "net.onnx", "--recipe", "lossless", "--set", "cse#².x=1"), 2),
        (("bisect", "net.onnx", "-o", "file"), 2),
        (("bisect", "net.onnx", "-o", LONG), 2),
        (("bisect", "net.onnx", "-o", "work", "--recipe", "lossless", "--check", "kill -9 $$"), 2),
        (("run", LONG, "x"), 2),
        (("validate", "file", "--reference", LONG), 2),
        (("bench", LONG), 2),
        (("passes", "new", LONG), 2),
        (("passes", "new", "my-first", "-o", "file/out"), 2),
        (("targets", "new", "my-first", "-o", LONG), 2),
        (("targets", "show", LONG), 2),
        (("models", "new", "my-first\n"), 2),
        (("passes", "check", LONG), 2),
    ],
    ids=lambda given: " ".join(part[:20] for part in given) if isinstance(given, tuple) else str(given),
)
def test_odd_arguments_are_bad_input(place: Path, command: tuple[str, ...], code: int) -> None:
    before = sorted(path.name for path in place.iterdir())
    done = ask(place, *command)
    assert done.code == code, done.err
    assert len(done.err) < 20_000
    shutil.rmtree(place / "work", ignore_errors=True)
    assert sorted(path.name for path in place.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plugins = 1\n", "plugins"),
        ("[[plugins]]\n", "plugins"),
        ("[plugins]\nallow = [1]\n", "plugins.allow.0"),
        (f"x = {'9' * 5000}\n", "is not TOML"),
        (DEEP, "is not TOML"),
        ("\ufeff", "is not TOML"),
        ("x = '\x00'\n", "is not TOML"),
    ],
)
@pytest.mark.parametrize("file", ["graphopt.toml", "recipe.toml"])
def test_wrong_settings_are_bad_input(tmp_path: Path, file: str, text: str, said: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    onnx.save(parser.parse_model(MODEL), folder / "net.onnx")
    (folder / file).write_text(text)
    done = ask(folder, "optimize", "net.onnx", "-o", "out", "--recipe", "recipe.toml", "--quiet")
    assert done.code == 2
    assert said in done.err or (file == "recipe.toml" and "recipe" in done.err)


def test_a_folder_in_place_of_settings_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "folder" / "graphopt.toml").mkdir(parents=True)
    done = ask(tmp_path / "folder", "passes", "list")
    assert (done.code, "graphopt.toml is a folder" in done.err) == (2, True)


@pytest.mark.parametrize("size", ["9" * 5000, "9e99", "-1", "1..5MB", "NaN"])
def test_a_cache_of_an_odd_size_is_bad_input(place: Path, size: str) -> None:
    assert ask(place, "cache", "list", GRAPHOPT_CACHE_SIZE=size).code == 2


def test_what_lies_in_a_cache_and_is_none_of_it_stays(place: Path, tmp_path: Path) -> None:
    kept, cache = tmp_path / "kept", tmp_path / "cache"
    (kept / "inner").mkdir(parents=True)
    cache.mkdir()
    for name in ("a" * 64, ".partial-1"):
        (cache / name).symlink_to(kept)
    (cache / ("b" * 64)).symlink_to(cache)
    (cache / ("c" * 64)).write_text("a file")
    (cache / ("d" * 64) / "entry.json").mkdir(parents=True)
    (cache / ".partial-2").touch()
    for verb in ("list", "clear"):
        assert ask(place, "cache", verb, GRAPHOPT_CACHE=str(cache)).code == 0
    assert [path.name for path in kept.iterdir()] == ["inner"]


@pytest.mark.parametrize("folder", ["net.onnx", "file/cache", "", "[/x]", LONG, "~nobody/cache"])
def test_a_cache_that_cannot_be_is_said(place: Path, folder: str) -> None:
    for verb in ("list", "clear"):
        done = ask(place, "cache", verb, GRAPHOPT_CACHE=folder)
        assert done.code in (0, 2, 4), done.err
        assert done.code == 0 or "error: " in done.err


@pytest.fixture(scope="module")
def searched(place: Path) -> tuple[Path, str]:
    """The folder in which a search was made, and what it found."""
    done = ask(place, *SEARCH, "--check", CHECK)
    assert done.code == 0, done.err
    culprit = json.loads(done.out)["culprit"]
    assert culprit["step"] == "lower-quick-gelu"
    return place / "work", culprit["identity"]


@settings(ALWAYS, max_examples=EXAMPLES)
@given(st.data())
def test_a_damaged_search_finds_the_same(searched: tuple[Path, str], data: st.DataObject) -> None:
    work, culprit = searched
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(work, Path(kept) / "work")
        path = data.draw(st.sampled_from(sorted(path for path in work.rglob("*") if path.is_file())))
        damage(path, data)
        done = ask(work.parent, *SEARCH, "--check", CHECK)
        shutil.rmtree(work)
        shutil.copytree(Path(kept) / "work", work)
    assert done.code == 0, f"{path.name}: {done.err}"
    assert json.loads(done.out)["culprit"]["identity"] == culprit


def test_an_earlier_search_is_not_believed_where_its_file_was_changed(searched: tuple[Path, str]) -> None:
    work, culprit = searched
    whole = (work / "bisect.json").read_text()
    (work / "bisect.json").write_text(whole.replace('"bad"', '"good"'))
    done = ask(work.parent, *SEARCH, "--check", CHECK)
    found = json.loads(done.out)
    assert (found["culprit"]["identity"], found["known"]) == (culprit, 0)
    again = json.loads(ask(work.parent, *SEARCH, "--check", CHECK).out)
    assert (again["trials"], again["known"] > 0) == (0, True)


@settings(ALWAYS, max_examples=EXAMPLES)
@given(st.data(), st.sampled_from([("passes", "list"), ("models", "list"), ("targets", "show", "cpu")]))
def test_damaged_settings_are_read_or_refused(data: st.DataObject, command: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        (folder / "graphopt.toml").write_text(ALLOW)
        damage(folder / "graphopt.toml", data)
        done = ask(folder, *command)
        assert done.code in (0, 2), done.err


@settings(ALWAYS, max_examples=EXAMPLES)
@given(
    st.sampled_from(["passes", "targets", "models"]), st.text(max_size=20) | st.from_regex("[a-z0-9-]{1,9}")
)
def test_what_is_made_of_a_name_is_code(kind: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        folder.mkdir()
        done = ask(folder, kind, "new", "-o", "new", "--", name)
        made = list((folder / "new").rglob("*.py"))
        assert (done.code, bool(made)) in ((0, True), (2, False)), done.err
        for path in made:
            compile(path.read_text(), path.name, "exec")
