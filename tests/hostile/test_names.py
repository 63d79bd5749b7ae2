"""Names are only text: what a model calls its values is no markup, and commands no terminal."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.hostile._limited import run_limited

EVIL = "[/red] [bold]\x1b[31m\x9b2J\u202e :smile:"
SPELLED = r"[/red] [bold]\x1b[31m\x9b2J\u202e :smile:"


def save(path: Path, last: str) -> None:
    x = helper.make_tensor_value_info(EVIL, TensorProto.FLOAT, ["[/n]", 8])
    y = helper.make_tensor_value_info("[/y]", TensorProto.FLOAT, ["[/n]", 8])
    nodes = [
        helper.make_node("Div", [EVIL, "[/root]"], ["[/a]"], name=f"{EVIL}/Div"),
        helper.make_node("Erf", ["[/a]"], ["[/b]"], name=f"{EVIL}/Erf"),
        helper.make_node(last, [EVIL, "[/b]"], ["[/y]"], name="[/m]"),
    ]
    root = helper.make_tensor("[/root]", TensorProto.FLOAT, [], [1.41421356])
    graph = helper.make_graph(nodes, "[/g]", [x], [y], [root])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)


@pytest.mark.parametrize(
    ("command", "code", "shown"),
    [
        (("inspect", "[net].onnx"), 0, "[/red] [bold]"),
        (("diff", "[net].onnx", "[other].onnx"), 0, "[/y]"),
        (("optimize", "[net].onnx", "-o", "[out]", "--recipe", "lossless"), 3, SPELLED),
        (("optimize", "[net].onnx", "--recipe", "lossless", "--explain", "raise-gelu"), 3, "1 near miss"),
        (("export", "[net].onnx", "-o", "[out]"), 0, "[out]"),
        (("bisect", "[net].onnx", "--recipe", "lossless"), 2, SPELLED),
        (("bisect", "[net].onnx", "--recipe", "lossless", "--dim", "[/n]=3"), 0, "the package is good"),
        (("run", "[/red].onnx"), 2, "[/red]"),
        (("passes", "show", EVIL), 2, "unknown pass"),
    ],
)
def test_they_are_shown_as_they_are(command: tuple[str, ...], code: int, shown: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save(folder / "[net].onnx", "Mul")
    save(folder / "[other].onnx", "Add")
    done = run_limited(command, folder)
    said = done.out + done.err

    assert done.code == code, said
    assert shown.lower() in said.lower()
    assert "\x1b" not in said


def test_a_terminal_gets_our_colours_and_nobody_elses(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.text import Text

    from graphopt.cli._console import _Plain

    _Plain(force_terminal=True, color_system="standard", width=200).print(Text(EVIL, "red"))
    assert capsys.readouterr().out == f"\x1b[31m{SPELLED}\x1b[0m\n"
