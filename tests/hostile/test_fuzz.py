"""Files changed at random are read and written again, or refused: in the loader, and in whole commands.

`make fuzz` tries many more, other ones each time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import BadInput
from graphopt.ir import load_model, save_model, to_proto
from graphopt.testing._example import corpus
from tests.hostile._limited import run_limited
from tests.hostile._mutations import ALWAYS, Seeds, changed_bytes, changed_messages
from tests.hostile.files import LEGAL, serialized

pytestmark = pytest.mark.filterwarnings("ignore")

LONGEST = 20_000
MODELS = Seeds(
    data
    for data in (
        *(to_proto(example.model()).SerializeToString() for example in corpus()),
        *(serialized(build()) for build in LEGAL.values()),
    )
    if len(data) < LONGEST
)
EXAMPLES = int(os.environ.get("FUZZ", "100"))
COMMANDS = {
    "bisect": ("-o", "work", "--recipe", "lossless", "--quiet"),
    "diff": ("net.onnx",),
    "export": ("-o", "out"),
    "inspect": (),
    "optimize": ("-o", "out", "--recipe", "lossless", "--quiet"),
}
MANY = settings(ALWAYS, max_examples=EXAMPLES)


def read(data: bytes) -> None:
    """Read it as a file; where that is possible, write it and read it again."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "net.onnx"
        path.write_bytes(data)
        (path.parent / "net.data").write_bytes(bytes(16))
        try:
            model = load_model(path)
        except BadInput:
            return
        save_model(model, path.with_name("again.onnx"))
        again = load_model(path.with_name("again.onnx"))
        assert len(list(again.graph.all_nodes())) == len(list(model.graph.all_nodes()))


@MANY
@given(changed_bytes(MODELS))
def test_changed_bytes_are_read_or_refused(data: bytes) -> None:
    read(data)


@MANY
@given(changed_messages(MODELS))
def test_changed_messages_are_read_or_refused(data: bytes) -> None:
    read(data)


@settings(MANY, max_examples=EXAMPLES // (5 if "FUZZ" in os.environ else 10))
@given(changed_messages(MODELS), st.sampled_from(sorted(COMMANDS)))
def test_commands_never_fail_by_a_bug(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "folder"
        folder.mkdir()
        (folder / "net.onnx").write_bytes(data)
        (folder / "net.data").write_bytes(bytes(16))
        done = run_limited((name, "net.onnx", *COMMANDS[name]), folder)
        expected = (0, 1, 2, 3) if name == "bisect" else (0, 2, 3)
        assert done.code in expected, f"{name}: {done.code}\n{done.err}"
        assert "Traceback" not in done.err
