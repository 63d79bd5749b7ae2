"""A runtime is asked for its kernels, and what changed since the target's table was written is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from graphopt.cli._main import run
from graphopt.plugins import registry
from graphopt.targets import DescribedTarget, Description, described
from graphopt.targets import _described as described_module
from graphopt.targets import _probe as module

NEWEST = 2**31 - 1
FILE = """\
title = "t"
provider = "SomeExecutionProvider"
device = "gpu"
last_run = "never"

# Kept.
[io]
cache = "none"

[operators]
source = "probed"
version = "onnxruntime 1.0"
date = 2026-01-01

[operators.types]
floats = ["float", "float16"]

[operators.rules]
head-size = { multiple = 8 }
matmul-nbits = [[4, 32]]
qk-norm = false

[operators.domains."ai.onnx"]
Add = ["7-14 T:floats"]
Relu = ["6-14 T:float"]
"""


@dataclass
class Kernel:
    op_name: str
    first: int
    last: int = NEWEST
    types: dict[str, list[str]] = field(default_factory=dict)
    domain: str = ""
    provider: str = "SomeExecutionProvider"

    @property
    def version_range(self) -> tuple[int, int]:
        return self.first, self.last

    @property
    def type_constraints(self) -> dict[str, list[str]]:
        return {name: [f"tensor({kind})" for kind in kinds] for name, kinds in self.types.items()}


ADD = [
    Kernel("Add", first, last, {"T": [kind]})
    for first, last in ((7, 12), (13, 13), (14, NEWEST))
    for kind in ("float", "float16")
]
RELU = [Kernel("Relu", first, last, {"T": ["float"]}) for first, last in ((6, 12), (13, 13), (14, NEWEST))]
INNER = [Kernel("MemcpyToHost", 1), Kernel("Conv", 11, domain="com.ms.internal.nhwc")]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Kernel]], type[DescribedTarget]]:
    """`asked(kernels)`: a described target, registered as "some", whose runtime registers these kernels."""
    file = tmp_path / "some.toml"
    file.write_text(FILE)
    described_module._read.cache_clear()
    target = described(file)
    targets = {**registry.targets(), "some": target}
    monkeypatch.setattr(registry, "targets", lambda: targets)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["SomeExecutionProvider"])

    def registering(kernels: list[Kernel]) -> type[DescribedTarget]:
        monkeypatch.setattr(module, "kernel_definitions", lambda said: kernels)
        return target

    return registering


def doctor(*arguments: str) -> int:
    return run(["targets", "doctor", "--probe", *arguments])


def test_a_runtime_that_is_as_its_table_says(
    asked: Callable[[list[Kernel]], type[DescribedTarget]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked([*ADD, *RELU, *INNER])

    assert doctor("some") == 0
    assert "some: no changes since onnxruntime 1.0, 2026-01-01" in capsys.readouterr().out


def test_what_changed_is_told(
    asked: Callable[[list[Kernel]], type[DescribedTarget]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked([*ADD, *RELU[:2], Kernel("Gelu", 1, types={"T": ["float"]}, domain="com.microsoft")])

    assert doctor("some") == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        "+ ai.onnx Relu 6-13 T:float",
        "- ai.onnx Relu 6-14 T:float",
        "+ com.microsoft Gelu 1 T:float",
    ]


def test_it_can_be_written(
    asked: Callable[[list[Kernel]], type[DescribedTarget]], capsys: pytest.CaptureFixture[str]
) -> None:
    target = asked([*ADD, *RELU[:2]])

    assert doctor("some", "--write") == 0
    written = target.file.read_text()
    assert written.startswith(FILE.partition("[operators]")[0])
    assert 'Add = ["7-14 T:floats"]' in written
    assert 'Relu = ["6-13 T:float"]' in written
    before = Description.read(target.file).operators
    assert before is not None
    assert before.rules.keys() == {"head-size", "matmul-nbits", "qk-norm"}
    assert doctor("some") == 0


def test_a_provider_that_compiles_tells_nothing(
    asked: Callable[[list[Kernel]], type[DescribedTarget]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked(INNER)

    assert doctor("some") == 2
    assert "tells no kernels" in capsys.readouterr().err


def test_a_target_without_its_wheel_cannot_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("directml") == 4


def test_a_target_without_a_table_is_asked_whenever_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("cpu") == 2


def test_all_that_are_installed_are_asked(
    asked: Callable[[list[Kernel]], type[DescribedTarget]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked([*ADD, *RELU])

    assert doctor() == 0
    assert "some: no changes" in capsys.readouterr().out


def test_versions_with_a_form_between_them_are_not_put_together() -> None:
    """Mul's forms came with 1, 6, 7, 13 and 14."""
    kernels = [Kernel("Mul", first, first, {"T": ["float"]}) for first in (6, 13)]
    found = module._merged([module._form(kernel) for kernel in kernels], [1, 6, 7, 13, 14])

    assert [str(form) for form in found] == ["13 T:float", "6 T:float"]
