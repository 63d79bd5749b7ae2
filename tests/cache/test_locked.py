"""--locked makes a package again bit for bit, or says what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser

from graphopt import BadInput, CheckFailed, Package, optimize
from graphopt.cli._main import run
from graphopt.package import LOCK
from tests.cache.test_continue import TEXT, Chooses, Work, more_passes, work

__all__ = ["more_passes", "work"]


def edit(package: Path, change: Callable[[Any], None]) -> Path:
    """A copy of the package's lock with a change."""
    held = json.loads((package / LOCK).read_text())
    change(held)
    changed = package.parent / "changed.lock"
    changed.write_text(json.dumps(held))
    return changed


def make(work: Work, **options: Any) -> Package:
    return optimize(work.folder / "net.onnx", work.folder / "again", force=True, **options)


def test_a_package_is_made_again_bit_for_bit(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chooses, "answers", iter([3, 4, 5]))
    first = work.optimize("first", on_mismatch="rollback", validate=False)
    again = make(work, locked=first.path)

    for path in first.path.iterdir():
        if path.name not in ("report.json", "report.html"):
            assert (again.path / path.name).read_bytes() == path.read_bytes(), path.name
    assert again.report().notes == ["chosen: 3"]
    assert not any(step.cached for step in again.report().passes)


def test_a_locked_run_continues_its_own_kind(work: Work) -> None:
    first = work.optimize("first")
    make(work, locked=first.path / LOCK)

    assert all(step.cached for step in make(work, locked=first.path / LOCK).report().passes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lock: lock["versions"].update(onnx="0.1"), "version of onnx: 0.1 then"),
        (lambda lock: lock["versions"].update(gone="1"), "version of gone is missing"),
        (lambda lock: lock["packs"][1].update(digest="sha256:0"), r"code of graphopt \(graphopt\."),
        (lambda lock: lock["fingerprint"].update(cores="999"), "machine: cores: 999 then"),
        (lambda lock: lock["inputs"].update({"net.onnx": "sha256:0"}), r"source: net\.onnx differs"),
        (lambda lock: lock["inputs"].update({"--inputs a.npz": "sha256:0"}), "--inputs a.npz is missing"),
        (lambda lock: lock["seeds"].update({"closing check": 1}), "seed of closing check: 1 then"),
    ],
)
def test_what_differs_is_listed(work: Work, change: Callable[[Any], None], said: str) -> None:
    first = work.optimize("first")

    with pytest.raises(BadInput, match=said):
        make(work, locked=edit(first.path, change))
    assert not (work.folder / "again").exists()


def test_a_changed_source_is_named(work: Work) -> None:
    first = work.optimize("first")
    onnx.save(parser.parse_model(TEXT.replace("0.5", "0.25")), work.folder / "net.onnx")

    with pytest.raises(BadInput, match=r"source: net\.onnx differs"):
        make(work, locked=first.path)


def test_another_result_is_named_and_not_installed(work: Work) -> None:
    first = work.optimize("first")
    outputs = {"model.onnx": "sha256:0", "more": "sha256:1"}
    wrong = edit(first.path, lambda lock: lock["outputs"].update(outputs))

    with pytest.raises(CheckFailed, match=r"model\.onnx differs, more is missing"):
        make(work, locked=wrong)
    assert not (work.folder / "again").exists()


@pytest.mark.parametrize("option", [{"recipe": "int4"}, {"dims": ["batch=1"]}, {"stop_after": "cse"}])
def test_options_that_the_lock_decides_are_refused(work: Work, option: dict[str, Any]) -> None:
    first = work.optimize("first")

    with pytest.raises(BadInput, match="cannot be given with --locked"):
        make(work, locked=first.path, **option)


@pytest.mark.parametrize("content", ["", "{}", '{"version": 2}'])
def test_what_is_no_lock_is_bad_input(work: Work, content: str) -> None:
    (work.folder / "wrong.lock").write_text(content)

    with pytest.raises(BadInput, match="is not a lock"):
        make(work, locked=work.folder / "wrong.lock")


def test_from_the_command_line(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    first = work.optimize("first")
    command = ["optimize", str(work.folder / "net.onnx"), "-q", "-o", str(work.folder / "again")]
    locked = ["--locked", str(first.path / LOCK)]

    assert run([*command, *locked, "--target", "cpu"]) == 2
    assert "--target cannot be given with --locked" in capsys.readouterr().err
    assert run([*command, *locked]) == 0
    wrong = edit(first.path, lambda lock: lock["versions"].update(onnx="0.1"))
    assert run([*command, "--force", "--locked", str(wrong)]) == 2
    wrong = edit(first.path, lambda lock: lock["outputs"].update({"model.onnx": "sha256:0"}))
    assert run([*command, "--force", "--locked", str(wrong)]) == 1
