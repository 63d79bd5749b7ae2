"""What `new` writes can be installed, and passes its own tests as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.cli._main import run
from graphopt.plugins import scaffold
from tests.plugins.conftest import Environment


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("passes", ("passes", "check", "graphopt-my-first")),
        ("targets", ("targets", "show", "my-first")),
        ("models", ("models", "list")),
    ],
)
def test_the_new_plugin_passes_its_own_tests(tmp_path: Path, kind: str, check: tuple[str, ...]) -> None:
    environment = Environment.create(tmp_path / "venv")
    made = environment.graphopt(kind, "new", "my-first", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "graphopt-my-first"
    environment.install("-e", folder)

    tested = environment.run("-m", "pytest", "-q", cwd=folder)
    checked = environment.graphopt(*check, cwd=tmp_path)

    assert tested.returncode == 0, tested.stdout
    assert "4 passed" in tested.stdout
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "my-first" in checked.stdout


def test_only_what_is_to_be_replaced_speaks_of_the_example(tmp_path: Path) -> None:
    folder, files = scaffold("passes", "my-first", tmp_path / "here")
    speaking = {p.relative_to(folder).as_posix() for p in files if "negation" in p.read_text().lower()}

    assert speaking == {"src/graphopt_my_first/my_first.py"}


@pytest.mark.slow
def test_its_wheel_brings_its_examples(tmp_path: Path) -> None:
    environment = Environment.create(tmp_path / "venv")
    assert environment.graphopt("passes", "new", "two-neg", "-o", "here", cwd=tmp_path).returncode == 0
    environment.install(tmp_path / "here")
    checked = environment.graphopt("passes", "check", "graphopt-two-neg", "--json", "-", cwd=tmp_path)
    listing = "import graphopt_two_neg as m; print(sorted(p.name for p in m.PACK.examples.rglob('*.txt')))"

    assert checked.returncode == 0, checked.stderr
    assert environment.run("-c", listing, cwd=tmp_path).stdout == "['refused.txt', 'rewritten.txt']\n"


def test_a_changed_template_pass_fails_its_own_tests(tmp_path: Path) -> None:
    environment = Environment.create(tmp_path / "venv")
    environment.graphopt("passes", "new", "my-first", cwd=tmp_path)
    source = tmp_path / "graphopt-my-first" / "src" / "graphopt_my_first" / "my_first.py"
    text = source.read_text()
    assert "replace={y: x}" in text
    source.write_text(text.replace("replace={y: x}", "replace={y: inner.outputs[0]}"))
    environment.install("-e", tmp_path / "graphopt-my-first")

    tested = environment.run("-m", "pytest", "-q", cwd=tmp_path / "graphopt-my-first")

    assert "2 failed, 2 passed" in tested.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Fuse", "cannot be the name"),
        ("fuse_it", "cannot be the name"),
        ("2-fold", "cannot be the name"),
        ("class", "is taken"),
        ("edit", "is taken"),
        ("passes", "is taken"),
        ("cse", "is installed already"),
    ],
)
def test_names_that_cannot_be(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["passes", "new", name, "-o", str(tmp_path / "new")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").write_text("mine")

    assert run(["passes", "new", "my-first", "-o", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
