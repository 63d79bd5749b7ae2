"""The folder that transformers.js loads: names by precision, files of weights, settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import graphopt_targets._transformers_js as layout
import graphopt_targets.web as room
import numpy as np
import onnx_ir as ir
import pytest

from graphopt import BadInput, EnvironmentProblem, Package, optimize
from graphopt.families import PackageContext
from graphopt.interface import Interface, TensorSpec
from graphopt.ir import DataFiles, load_model, parse
from graphopt.plugins import registry
from graphopt.targets import DescribedTarget, Target
from tests.ir._weighted import weighted

PRODUCT = """
    <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
    g (FLOAT[B,64] x) => (FLOAT[B,64] y)
    <uint8[64,2,BYTES] w = ["location": "absent"], FLOAT[64,2] s = ["location": "absent"]> {
        y = com.microsoft.MatMulNBits<K = 64, N = 64, bits = BITS, block_size = 32>(x, w, s)
    }
"""
PLAIN = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (FLOAT[B,64] x) => (FLOAT[B,64] y) <FLOAT[64,64] w = ["location": "absent"]> { y = MatMul(x, w) }
"""
CACHED = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[rows,2,past,4] "past_key_values.0.key", float[rows,2,new,4] k)
        => (float[rows,2,total,4] "present.0.key")
    { "present.0.key" = Concat<axis = 2>("past_key_values.0.key", k) }
"""


@pytest.fixture
def web() -> Target:
    return registry.resolve("target", "web", registry.targets())()


def part(folder: Path, *inputs: TensorSpec, file: str = "onnx/model.onnx") -> dict[str, PackageContext]:
    """A graph of such inputs in `folder`, as `package_files` is told of it; the file has others."""
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(ir.to_proto(parse(CACHED)).SerializeToString())
    return {"model": PackageContext(Interface(inputs), file)}


def filled(text: str, dtype: str = "float", bits: int = 4) -> ir.Model:
    """The graph in `text` of floats of that `dtype`, its weights zeros."""
    for name, value in (("FLOAT", dtype), ("BYTES", 4 * bits), ("BITS", bits)):
        text = text.replace(name, str(value))
    model = parse(text)
    for value in model.graph.initializers.values():
        assert value.shape is not None
        assert value.dtype is not None
        zeros = np.zeros(value.shape.numpy(), value.dtype.numpy())
        value.const_value = ir.tensor(zeros, dtype=value.dtype, name=value.name)
    return model


@pytest.mark.parametrize(
    ("model", "file"),
    [
        (lambda: filled(PLAIN), "model.onnx"),
        (lambda: filled(PLAIN, "float16"), "model_fp16.onnx"),
        (lambda: filled(PRODUCT, bits=8), "model_quantized.onnx"),
        (lambda: filled(PRODUCT, bits=4), "model_q4.onnx"),
        (lambda: filled(PRODUCT, "float16", bits=4), "model_q4f16.onnx"),
        (lambda: filled(PRODUCT, bits=2), "model_q2.onnx"),
        (lambda: filled(PRODUCT, "float16", bits=2), "model_q2f16.onnx"),
        (lambda: parse(CACHED), "model.onnx"),
    ],
)
def test_a_graph_is_called_by_the_precision_of_its_weights(
    web: Target, model: Callable[[], ir.Model], file: str
) -> None:
    assert web.place("model", model()) == f"onnx/{file}"


def test_a_table_of_sizes_is_no_weight(web: Target) -> None:
    model = filled(PLAIN)
    model.graph.initializers["sizes"] = ir.Value(
        name="sizes", const_value=ir.tensor(np.zeros(1 << 16, np.int64), name="sizes")
    )

    assert web.place("model", model) == "onnx/model.onnx"


def test_weights_lie_in_files_that_are_called_as_transformers_js_calls_them(
    web: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "DATA", DataFiles("_data", 400_000))
    monkeypatch.setattr(layout, "DATA", DataFiles("_data", 400_000))
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[B,256] x) => (float[B,256] y)
        <float[256,256] a = ["location": "absent"], float[256,256] b = ["location": "absent"],
         float[256,256] c = ["location": "absent"], float[256,256] d = ["location": "absent"]>
        { s = MatMul(x, a)  t = MatMul(s, b)  u = MatMul(t, c)  y = MatMul(u, d) }"""
    )
    for index, value in enumerate(model.graph.initializers.values()):
        array = np.full((256, 256), index, np.float32)
        value.const_value = ir.tensor(array, name=value.name)
    path = tmp_path / web.place("model", model)
    report = web.compile(model, path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    web.package_files(None, tmp_path, {"model": PackageContext(Interface.of(model), "onnx/model.onnx")})

    found = {p.name: p.stat().st_size for p in path.parent.iterdir()}
    assert found.keys() == {"model.onnx", *(f"model.onnx_data{end}" for end in ("", "_1", "_2", "_3"))}
    assert report.bytes == sum(found.values())
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings == {
        "model_type": "llama",
        "transformers.js_config": {"dtype": "fp32", "use_external_data_format": {"model.onnx": 4}},
    }


def test_a_package_is_what_transformers_js_wants(
    tmp_path: Path, tiny_coder: Path, begun: Path, own_cache: Path
) -> None:
    shutil.copytree(begun, own_cache, dirs_exist_ok=True)
    package = optimize(tiny_coder, tmp_path / "out", recipe="int4-fast", target="web", verify="structure")

    files = {str(p.relative_to(package.path)) for p in package.path.rglob("*") if p.is_file()}
    assert {"onnx/model_q4.onnx", "onnx/model_q4.onnx_data", "config.json", "generation_config.json"} <= files
    assert {"tokenizer.json", "tokenizer_config.json"} <= files
    assert not [name for name in files if name.startswith("model")]
    assert package.manifest.graphs["model"].file == "onnx/model_q4.onnx"
    settings = json.loads((package.path / "config.json").read_text())
    assert settings.pop("transformers.js_config") == {
        "dtype": "q4",
        "use_external_data_format": {"model_q4.onnx": 1},
    }
    assert settings == json.loads((tiny_coder / "config.json").read_text())
    assert package.generate("import os\n", max_new_tokens=4)
    assert [
        note for note in package.report().notes if "has no GatherBlockQuantized for the processor" in note
    ]
    assert Package.load(package.path).manifest == package.manifest


def test_settings_of_the_source_stay(web: Target, tmp_path: Path) -> None:
    before = {"a": 1, "transformers.js_config": {"device": "wasm", "dtype": "fp16"}}
    (tmp_path / "config.json").write_text(json.dumps(before))
    half = TensorSpec("past_key_values.0.key", "float16", ("batch_size", 2, "past", 4))

    notes = web.package_files(None, tmp_path, part(tmp_path, half, file="onnx/model_q4f16.onnx"))

    assert notes == []
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "a": 1,
        "transformers.js_config": {
            "device": "wasm",
            "dtype": "q4f16",
            "use_external_data_format": {},
            "kv_cache_dtype": {"q4f16": "float16"},
        },
    }


def test_what_transformers_js_cannot_do_is_said(web: Target, tmp_path: Path) -> None:
    state = TensorSpec("past_key_values.0.conv_state", "float32", ("batch", 8, 3))
    ids = TensorSpec("input_ids", "int64", ("batch", "sequence"))

    notes = web.package_files(None, tmp_path, part(tmp_path, ids, state))

    assert [note.partition(":")[0] for note in notes] == [
        "transformers.js cannot load this package",
        "transformers.js cannot run this package",
    ]
    assert notes[1].endswith("past_key_values.0.conv_state")


def test_a_settings_file_that_leads_out_of_the_model_is_refused(web: Target, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    source, staging = tmp_path / "source", tmp_path / "staging"
    source.mkdir()
    staging.mkdir()
    (source / "config.json").symlink_to(tmp_path / "secret")

    with pytest.raises(BadInput, match=r"config\.json"):
        web.package_files(source, staging, {"model": PackageContext(Interface(), "onnx/model.onnx")})


def test_the_batch_of_a_cache_is_called_as_transformers_js_calls_it(web: Target, tmp_path: Path) -> None:
    model = parse(CACHED)
    path = tmp_path / web.place("model", model)

    web.compile(model, path)

    made = Interface.of(load_model(path))
    assert [spec.dims[0] for spec in (*made.inputs, *made.outputs)] == ["batch_size"] * 3
    assert Interface.of(model) == made


def test_more_than_webassembly_can_address_is_refused(
    web: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_MEMORY", 16_391)

    with pytest.raises(BadInput, match="weights of 16,392 bytes: WebAssembly has 16,391") as refused:
        web.compile(weighted(np.ones((64, 64), np.float32)), tmp_path / "onnx" / "model.onnx")

    assert "--recipe int4" in str(refused.value.hint)
    assert not list(tmp_path.iterdir())


def test_an_operator_without_a_kernel_in_webassembly_is_refused(web: Target, tmp_path: Path) -> None:
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (double[2] x) => (double[2] y) { y = Celu(x) }
    """)
    with pytest.raises(BadInput, match=r"target 'web' cannot run node 'y/Celu'"):
        web.compile(model, tmp_path / "onnx" / "model.onnx")

    assert not list(tmp_path.iterdir())


def test_what_onnxruntime_web_does_not_know_yet_is_refused(web: Target) -> None:
    """GroupQueryAttention with query_seqlens, its 17th input, came after onnxruntime-web 1.30."""
    model = parse("""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g (float[1,1,48] q, float[1,1,p,16] k, float[1,1,p,16] v, int32[1] l, int32 t, int32[1] s)
            => (float[1,1,16] y, float[1,1,n,16] a, float[1,1,n,16] b) {
            y, a, b = com.microsoft.GroupQueryAttention<num_heads = 1, kv_num_heads = 1>(
                q, , , k, v, l, t, , , , , , , , , , s)
        }
    """)

    (found,) = web.capabilities().unsupported(model)
    assert "takes no query_seqlens (onnxruntime-web 1.30" in found.reason


def test_the_kernels_of_the_provider_here_are_not_taken_for_those_of_onnxruntime_web(web: Target) -> None:
    assert isinstance(web, DescribedTarget)
    with pytest.raises(EnvironmentProblem) as refused:
        web.probed()

    assert "scripts/web/kernels.py" in str(refused.value.hint)
