"""Targets that are data: what their files and tables say, and what doctor says is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from graphopt import BadInput
from graphopt.cli._main import run
from graphopt.errors import EnvironmentProblem
from graphopt.ir import parse
from graphopt.plugins import registry
from graphopt.recipes import Budget, Recipe
from graphopt.targets import DescribedTarget, Description, KernelForm, described
from graphopt.targets import _described as module

DESCRIBED: dict[str, Any] = {
    name: cls for name, cls in registry.targets().items() if issubclass(cls, DescribedTarget)
}
TABLES = [name for name, cls in DESCRIBED.items() if cls().description.operators is not None]
ACCELERATORS = ("cuda", "tensorrt", "tensorrt-rtx", "webgpu", "coreml", "directml", "migraphx")
RECIPE = Recipe("lossless", "", Budget(), ())

# Operators of old, or of onnxruntime alone though they stand in ONNX's domain; each is told by its source.
GONE = {"Affine", "Crop", "GroupNorm", "ImageScaler", "ParametricSoftplus", "ScaledTanh", "Upsample"}


def schemas() -> set[tuple[str, str]]:
    """Of onnx and of the installed onnxruntime."""
    found = {(schema.domain, schema.name) for schema in state.get_all_operator_schema()}
    return found | {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`installed(system, name=version)`: which distributions there are, on which system."""

    def install(system: str, **versions: str) -> None:
        found = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(module, "_version", found.get)
        monkeypatch.setattr(module, "system", lambda: system)

    return install


@pytest.mark.parametrize("name", ACCELERATORS)
def test_it_says_what_it_is(name: str) -> None:
    target = DESCRIBED[name]()
    said = target.description

    assert target.name == name
    assert said.provider.endswith("ExecutionProvider")
    assert said.last_run == "never" or said.last_run[:4].isdigit()
    assert said.needs_device
    assert said.io
    assert "source" in said.hardware
    assert said.operators is not None
    assert target.facts()["kernels"].startswith(said.operators.source)


@pytest.mark.parametrize("name", TABLES)
def test_every_operator_of_its_table_exists(name: str) -> None:
    tables = DESCRIBED[name]().description.operators
    known = schemas()
    named = {
        ("" if domain == "ai.onnx" else domain, op_type)
        for domain, table in tables.domains.items()
        for op_type in table
    }
    assert {op for domain, op in named - known if (domain, op) not in known} <= GONE
    assert len(named) > 40


@pytest.mark.parametrize("name", TABLES)
def test_every_form_of_its_table_is_one_of_an_operator(name: str) -> None:
    """Versions at which something came, and variables or inputs that the operator's schema has."""
    sinces: dict[tuple[str, str], set[int]] = {}
    variables: dict[tuple[str, str], set[str]] = {}
    for schema in [*state.get_all_operator_schema(), *onnx.defs.get_all_schemas_with_history()]:
        key = (schema.domain, schema.name)
        sinces.setdefault(key, set()).add(schema.since_version)
        parameters = [*schema.inputs, *schema.outputs]
        of_parameters = {getattr(p, "type_str", None) or p.typeStr for p in parameters}
        variables.setdefault(key, set()).update(of_parameters, (p.name for p in parameters))
    tables = DESCRIBED[name]().description.operators
    for domain, table in tables.domains.items():
        for op_type, texts in table.items():
            key = ("" if domain == "ai.onnx" else domain, op_type)
            for text in texts:
                form = KernelForm.read(text, tables.types)
                assert form.types.keys() <= variables.get(key, form.types.keys()), (op_type, text)
                if form.last is not None and key in sinces:
                    assert any(form.first <= since <= form.last for since in sinces[key]), (op_type, text)


@pytest.mark.parametrize("name", ACCELERATORS)
def test_its_passes_exist_and_make_nothing_that_its_table_lacks(name: str) -> None:
    target = DESCRIBED[name]()
    made = {
        "lower-skip-norm": ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
        "lower-quick-gelu": ("QuickGelu",),
        "lower-attention": ("GroupQueryAttention",),
    }
    steps = target.lowering(RECIPE)
    assert {step.name for step in steps} <= set(registry.passes())
    for step in steps:
        for op_type in made.get(step.name, ()):
            assert target.capabilities().supports("com.microsoft", op_type, 1, {"T": "tensor(float16)"})


@pytest.mark.parametrize("name", ACCELERATORS)
def test_without_its_wheel(name: str, installed: Callable[..., None]) -> None:
    target = DESCRIBED[name]()
    wheels = target.description.wheels
    installed(wheels.systems[0])
    found = target.diagnose()

    assert found.state == "no wheel"
    assert found.command == "pip install " + " ".join(f"'{need}'" for need in wheels.needs)
    with pytest.raises(EnvironmentProblem) as raised:
        target.session(Path("nothing.onnx"))
    assert raised.value.exit_code == 4
    assert raised.value.hint == found.command


@pytest.mark.parametrize("name", ["cuda", "tensorrt", "directml", "migraphx"])
def test_with_the_wheel_that_it_replaces(name: str, installed: Callable[..., None]) -> None:
    target = DESCRIBED[name]()
    wheels = target.description.wheels
    names = [module._distribution(need) for need in wheels.needs]
    needs = {name.replace("-", "_"): "10.1" for name in names}

    installed(wheels.systems[0], onnxruntime="1.32.0")
    assert target.diagnose().state == "no wheel"
    assert target.diagnose().command == "pip uninstall -y onnxruntime && pip install " + " ".join(
        f"'{need}'" for need in wheels.needs
    )

    installed(wheels.systems[0], onnxruntime="1.32.0", **needs)
    found = target.diagnose()
    assert found.state == "wrong wheels"
    assert "lie over each other" in found.said
    assert found.command is not None
    assert found.command.startswith(f"pip uninstall -y onnxruntime {' '.join(names)} && pip install ")


def test_with_a_version_that_does_not_load(installed: Callable[..., None]) -> None:
    """The wheel is linked with TensorRT 10."""
    installed("linux-x86_64", onnxruntime_gpu="1.31.1", tensorrt_cu13="11.4.0.106")
    found = DESCRIBED["tensorrt"]().diagnose()

    assert found.state == "wrong wheels"
    assert found.said == "tensorrt-cu13 11.4.0.106 is installed, and tensorrt-cu13>=10,<11 is needed"
    assert found.command == "pip install 'tensorrt-cu13>=10,<11'"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_on_another_system(name: str, installed: Callable[..., None]) -> None:
    installed("plan9-mips")
    found = DESCRIBED[name]().diagnose()

    assert (found.state, found.command) == ("other system", None)
    assert "plan9-mips" in found.said


def test_a_wheel_whose_library_does_not_load(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("linux-x86_64", onnxruntime="1.32.0", onnxruntime_ep_webgpu="0.4.0")
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", None)
    found = DESCRIBED["webgpu"]().diagnose()

    assert found.state == "no provider"
    assert "onnxruntime_ep_webgpu cannot be imported" in found.said


def test_a_wheel_without_a_device(installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime has the provider, and a session comes to be without it."""
    installed("linux-x86_64", onnxruntime_gpu="1.31.1")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    found = DESCRIBED["cuda"]().diagnose()

    assert found.state == "no device"
    assert found.said.endswith(f"it needs {DESCRIBED['cuda']().description.needs_device}")


def test_compiling_where_it_cannot_run_ends_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }
    """)
    onnx.save(model, tmp_path / "model.onnx")
    arguments = ["optimize", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out"), "--target", "cuda"]

    assert run(arguments) == 4
    assert (
        "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_an_unknown_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimize", "tiny-coder", "-o", str(tmp_path / "out"), "--target", "coda"]) == 2
    assert "Did you mean 'cuda'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "wheels", "said", "command"),
    [
        (
            "cuda",
            ["onnxruntime_gpu-1.31.1"],
            "onnxruntime and onnxruntime-gpu lie over each other",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxruntime-gpu[cuda,cudnn]'",
        ),
        (
            "tensorrt",
            ["onnxruntime_gpu-1.31.1"],
            "tensorrt-cu13>=10,<11 is not installed",
            "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu' 'tensorrt-cu13>=10,<11'",
        ),
        (
            "webgpu",
            ["onnxruntime_ep_webgpu-0.4.0"],
            "onnxruntime_ep_webgpu cannot be imported",
            "",
        ),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="these wheels are for Linux")
def test_doctor_in_an_environment_with_other_wheels(
    name: str, wheels: list[str], said: str, command: str, tmp_path: Path
) -> None:
    for wheel in wheels:
        about = tmp_path / f"{wheel}.dist-info"
        about.mkdir()
        distribution, version = wheel.split("-")
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution.replace('_', '-')}\nVersion: {version}\n"
        )
    ended = subprocess.run(
        [sys.executable, "-m", "graphopt", "targets", "doctor", name],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 4, ended.stderr
    assert said in ended.stdout
    assert command in ended.stdout


@pytest.mark.parametrize(
    ("text", "version", "since", "expected"),
    [
        ("13", 13, 13, True),
        ("13", 18, 13, True),
        ("13", 22, 21, False),
        ("6-13", 11, 6, True),
        ("6-13", 22, 21, False),
        ("13+", 22, 21, True),
        ("13+", 18, 6, True),
        ("13+", 12, 6, False),
    ],
)
def test_a_kernel_is_for_forms_of_an_operator(text: str, version: int, since: int, expected: bool) -> None:
    assert KernelForm.read(text).is_of(version, since) is expected


def test_a_form_reads_as_it_is_written() -> None:
    form = KernelForm.read("7-14 T:floats,int32 Tind:int64", {"floats": ("float", "float16")})

    assert form.types == {"T": {"float", "float16", "int32"}, "Tind": {"int64"}}
    assert str(form) == "7-14 T:float,float16,int32 Tind:int64"
    assert KernelForm.read(str(form)) == form
    assert form.takes({"T": "tensor(int32)", "V": "tensor(string)"})
    assert not form.takes({"T": "tensor(double)"})


@pytest.mark.parametrize("text", ["", "T:float", "13 -", "x+", "7-12T:float"])
def test_what_is_no_form(text: str) -> None:
    with pytest.raises(BadInput, match="says no versions"):
        KernelForm.read(text)


TOML = """
title = "t"
provider = "SomeExecutionProvider"
last_run = "never"
{more}
[operators]
source = "here"
version = "1"
date = 2026-11-30
[operators.rules]
qk-norm = true
head-size = {{ multiple = 8, most = 256 }}
matmul-nbits = [[4, 32], [8, 128]]
[operators.refused."ai.onnx"]
Reshape = ["allowzero"]
[operators.domains."ai.onnx"]
Relu = ["6-14 T:float"]
Reshape = ["5-21"]
"""


@pytest.fixture
def target(tmp_path: Path) -> Callable[..., DescribedTarget]:
    def make(more: str = "") -> DescribedTarget:
        file = tmp_path / "some.toml"
        file.write_text(TOML.format(more=more))
        return described(file)()

    return make


GRAPH = """
    <ir_version: 10, opset_import: ["" : {opset}]>
    g ({kind}[2, 4] x, int64[1] n) => ({kind}[8] y) {{ h = Relu(x)  y = Reshape(h, n) }}
"""


@pytest.mark.parametrize(
    ("opset", "kind", "reasons"),
    [
        (21, "float", []),
        (23, "float", ["SomeExecutionProvider has no kernel for it at version 23 (1, 2026-11-30)"]),
        (21, "float16", ["SomeExecutionProvider has no kernel for tensor(float16) (1, 2026-11-30)"]),
    ],
)
def test_what_is_outside_of_a_table_is_left_to_the_cpu_provider(
    target: Callable[..., DescribedTarget], opset: int, kind: str, reasons: list[str]
) -> None:
    model = parse(GRAPH.format(opset=opset, kind=kind))
    table = target().capabilities()

    assert [one.reason for one in table.left_to_others(model)] == reasons
    assert table.unsupported(model) == []


def test_without_the_cpu_provider_it_is_unsupported(target: Callable[..., DescribedTarget]) -> None:
    table = target("fallback = false").capabilities()
    model = parse(GRAPH.format(opset=23, kind="float"))

    assert [one.operator for one in table.unsupported(model)] == ["ai.onnx::Reshape"]
    assert table.left_to_others(model) == ()


def test_what_no_kernel_takes_is_outside(target: Callable[..., DescribedTarget]) -> None:
    model = parse(GRAPH.format(opset=21, kind="float").replace("Reshape(", "Reshape<allowzero = 1>("))
    (only,) = target().capabilities().left_to_others(model)

    assert only.reason == "SomeExecutionProvider's kernel takes no allowzero (1, 2026-11-30)"


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        ("qk-norm", (), True),
        ("head-size", (64,), True),
        ("head-size", (20,), False),
        ("head-size", (512,), False),
        ("matmul-nbits", (4, 32), True),
        ("matmul-nbits", (4, 128), False),
        ("attention-bias", (), False),
    ],
)
def test_rules(
    target: Callable[..., DescribedTarget], rule: str, values: tuple[int, ...], expected: bool
) -> None:
    assert target().capabilities().accepts(rule, *values) is expected


def test_a_key_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('title = "t"\nprovider = "P"\nlast_run = "never"\ndevice = "tpu"\n')
    with pytest.raises(BadInput, match=r"t\.toml: device: "):
        Description.read(tmp_path / "t.toml")


def test_options_of_lowering(target: Callable[..., DescribedTarget]) -> None:
    more = 'lowering = ["lower-attention"]\n[lowering_options.lower-attention]\nmode = "dense"'
    (step,) = target(more).lowering(RECIPE)

    assert (step.name, step.options) == ("lower-attention", {"mode": "dense"})
