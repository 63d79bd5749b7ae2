"""Writing models: what a round trip keeps, and what a failed save leaves behind."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import save_file

import graphopt.ir._save as saving
from graphopt.errors import BadInput
from graphopt.ir import (
    Cast,
    DataFiles,
    FileRange,
    InMemory,
    LazyTensor,
    Reshaped,
    SafetensorsIndex,
    Transposed,
    Unbound,
    graph_hash,
    load_model,
    parse,
    save_model,
    text,
)
from tests.ir._weighted import weighted


def test_content_survives_and_stays_lazy(saved, weight):
    loaded = load_model(saved)
    tensor = loaded.graph.initializers["w"].const_value
    assert isinstance(tensor, LazyTensor)
    np.testing.assert_array_equal(tensor.numpy(), weight)
    assert loaded.graph.initializers["k"].const_value.numpy().tolist() == [0]
    assert saved.with_name("model.onnx.data").stat().st_size == weight.nbytes
    assert text(loaded) == text(weighted(weight))


def test_onnxruntime_reads_what_was_written(saved, weight):
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    (y,) = ort.InferenceSession(saved, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(y, np.maximum(x @ weight, 0), rtol=1e-5, atol=1e-5)


def test_saving_leaves_the_model_as_it_was(tmp_path, weight):
    model = weighted(weight)
    before, held = graph_hash(model), model.graph.initializers["w"].const_value
    save_model(model, tmp_path / "m.onnx")
    assert graph_hash(model) == before
    assert model.graph.initializers["w"].const_value is held
    assert held.name == "w"


def test_a_sharded_bf16_checkpoint_with_a_tied_weight(tmp_path):
    """Two shards, one tensor bound twice, cast and transposed on the way to disk."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(64, 48, generator=generator).bfloat16() for _ in range(2))
    save_file({"a": a}, tmp_path / "one.safetensors")
    save_file({"b": b}, tmp_path / "two.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    )
    index = SafetensorsIndex(tmp_path)
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[B,48] x) => (float[B,64] y)
        <float[48,64] first = ["location": "absent"], float[48,64] tied = ["location": "absent"],
         float[48,64] other = ["location": "absent"], bfloat16[64,48] raw = ["location": "absent"]>
        { p = MatMul(x, first) q = MatMul(x, tied) r = MatMul(x, other) s = Add(p, q) y = Add(s, r) }"""
    )
    for name, expr in {
        "first": Transposed(Cast(index.expr("a"), ir.DataType.FLOAT), (1, 0)),
        "tied": Cast(Transposed(index.expr("a"), (1, 0)), ir.DataType.FLOAT),
        "other": Transposed(Cast(index.expr("b"), ir.DataType.FLOAT), (1, 0)),
        "raw": index.expr("b"),
    }.items():
        model.graph.initializers[name].const_value = LazyTensor(expr, name)
    save_model(model, tmp_path / "m.onnx")

    held = {n: v.const_value for n, v in load_model(tmp_path / "m.onnx").graph.initializers.items()}
    for name in ("first", "tied"):
        np.testing.assert_array_equal(held[name].numpy(), a.float().numpy().T)
    np.testing.assert_array_equal(held["other"].numpy(), b.float().numpy().T)
    assert held["raw"].dtype == ir.DataType.BFLOAT16
    assert held["raw"].tobytes() == b.view(torch.uint8).numpy().tobytes()
    assert held["first"].expr.offset == held["tied"].expr.offset
    assert all(t.expr.offset % 64 == 0 for t in held.values())
    assert (tmp_path / "m.onnx.data").stat().st_size == (2 * 12288) + (8192 - 2048)
    x = np.ones((1, 48), np.float32)
    (y,) = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    expected = x @ (2 * a.float().numpy().T + b.float().numpy().T)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "dtype", [ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.BOOL, ir.DataType.FLOAT8E5M2]
)
@pytest.mark.parametrize("shape", [(3, 5), (99, 101)])
def test_small_types_survive_inline_and_outside(tmp_path, monkeypatch, dtype, shape):
    monkeypatch.setattr(saving, "_EXTERNAL_FROM", 64)
    array = (np.arange(shape[0] * shape[1]).reshape(shape) % 7).astype(dtype.numpy())
    kind = f"{dtype.name.lower()}[{shape[0]},{shape[1]}]"
    model = parse(f'<ir_version: 10, opset_import: ["" : 23]> g () => ({kind} y) {{ y = Identity(w) }}')
    value = ir.Value(name="w", shape=ir.Shape(shape), type=ir.TensorType(dtype))
    value.const_value = LazyTensor(InMemory(array, dtype), "w")
    model.graph.register_initializer(value)
    model.graph[0].replace_input_with(0, value)
    save_model(model, tmp_path / "m.onnx")
    read = load_model(tmp_path / "m.onnx").graph.initializers["w"].const_value
    assert isinstance(read, LazyTensor) == (array.size > 64)
    np.testing.assert_array_equal(np.asarray(read.numpy(), np.float32), array.astype(np.float32))


def test_large_weights_start_on_pages_and_others_on_lines(tmp_path):
    sizes = {"w1": 16385, "w2": 1, "w3": 1025, "w4": 16384}
    weights = ", ".join(f'float[{size}] {name} = ["location": "absent"]' for name, size in sizes.items())
    model = parse(
        f"""<ir_version: 10, opset_import: ["" : 23]> g () => (float[N] y)
        <{weights}> {{ y = Concat<axis = 0>(w1, w2, w3, w4) }}"""
    )
    for name, size in sizes.items():
        model.graph.initializers[name].const_value = ir.tensor(np.arange(size, dtype=np.float32), name=name)
    save_model(model, tmp_path / "m.onnx")
    held = {n: v.const_value for n, v in load_model(tmp_path / "m.onnx").graph.initializers.items()}
    line, page = 4 * 16385 + 60, 4 * 16385 + 60 + 4100 + 4028
    assert [t.expr.offset for n, t in held.items() if n != "w2"] == [0, line, page]
    assert (line % 64, page % 4096) == (0, 0)
    assert all(held[name].numpy().tolist() == list(range(size)) for name, size in sizes.items())


def test_types_that_a_reader_infers_are_not_written(tmp_path):
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23, "own" : 1]> g (float[N] x, int64[2] s) => (float[M] y)
        <float[2] w = {1.0, 2.0}, float[N] a, int64[1,unk__0] b, float[unk__1] c, float[N,2] d, float[N] e> {
            a = Neg(x) b = NonZero(a) c = own.Twice(a) d = Reshape(x, s) e = Squeeze(d) y = Mul(c, w)
        }"""
    )
    save_model(model, tmp_path / "m.onnx")
    written = [value.name for value in onnx.load(tmp_path / "m.onnx").graph.value_info]
    assert written == ["c", "d", "e"], "of another domain, declared, and of a rank that nobody infers"


def test_weights_of_subgraphs_and_strings_survive(tmp_path):
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[N] x, bool c) => (float[N] y, string[2] t)
        <string[2] words = {"a", "b"}> {
          y = If(c) <then_branch = p () => (float[N] u)
                         <float[2000] w = ["location": "absent"]> { u = Add(x, w) },
                     else_branch = q () => (float[N] v) { v = Neg(x) }>
          t = Identity(words) }"""
    )
    (branch,) = (g for g in model.graph.subgraphs() if g.initializers)
    branch.initializers["w"].const_value = ir.tensor(np.arange(2000, dtype=np.float32), name="w")
    save_model(model, tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx")
    (branch,) = (g for g in loaded.graph.subgraphs() if g.initializers)
    assert isinstance(branch.initializers["w"].const_value, LazyTensor)
    assert branch.initializers["w"].const_value.numpy()[-1] == 1999
    assert loaded.graph.initializers["words"].const_value.numpy().tolist() == [b"a", b"b"]


def test_a_weight_of_one_huge_row_is_written_in_tiles(tmp_path):
    """Peak memory while 64 MiB of bf16 become 128 MiB of fp32 is a few tiles."""
    shape = (1, 1 << 13, 1 << 12)
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(2 * (shape[1] * shape[2]))
    source = FileRange(tmp_path / "zeros", 0, 2 * shape[1] * shape[2], ir.DataType.BFLOAT16, shape)
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g () => (float[1,8192,4096] y)
        <float[1,8192,4096] w = ["location": "absent"]> { y = Identity(w) }"""
    )
    model.graph.initializers["w"].const_value = LazyTensor(Cast(source, ir.DataType.FLOAT), "w")
    tracemalloc.start()
    save_model(model, tmp_path / "m.onnx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "m.onnx.data").stat().st_size == 128 << 20
    assert peak < 24 << 20


def test_small_models_have_no_data_file(tmp_path):
    (tmp_path / "m.onnx.data").write_bytes(b"of an older model")
    small = parse('<ir_version: 10, opset_import: ["" : 23]> g (float[N] x) => (float[N] y) { y = Neg(x) }')
    save_model(small, tmp_path / "m.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx"]


def test_bfloat16_weights_are_held_as_such(tmp_path):
    array = np.arange(4096, dtype=np.float32).reshape(64, 64).astype(ml_dtypes.bfloat16)
    model = weighted(np.zeros((64, 64), np.float32))
    model.graph.initializers["w"].const_value = ir.tensor(array, name="w")
    model.graph.initializers["w"].dtype = ir.DataType.BFLOAT16
    save_model(model, tmp_path / "m.onnx")
    proto = onnx.load_model(tmp_path / "m.onnx")
    (stored,) = (t for t in proto.graph.initializer if t.name == "w")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), array)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_leaves_the_old_model_and_no_debris(saved, weight, monkeypatch):
    before = contents(saved.parent)

    def full(self: object, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "payload", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(weighted(weight + 1), saved)
    assert contents(saved.parent) == before


def test_an_interrupt_at_the_last_sync_leaves_the_old_model(saved, weight, monkeypatch):
    before = contents(saved.parent)
    monkeypatch.setattr(saving, "_sync", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_model(weighted(weight + 1), saved)
    assert contents(saved.parent) == before


def test_a_model_is_not_saved_over_the_file_it_reads(saved):
    before = contents(saved.parent)
    with pytest.raises(BadInput, match="weight 'w' is read from it"):
        save_model(load_model(saved), saved)
    assert contents(saved.parent) == before


def test_a_weight_without_data_is_not_saved(tmp_path):
    model = weighted(np.zeros((64, 64), np.float32))
    model.graph.initializers["w"].const_value = LazyTensor(Unbound("w", ir.DataType.FLOAT, (64, 64)))
    with pytest.raises(ValueError, match="'w' has no data"):
        save_model(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_views_of_one_range_are_stored_once_whatever_their_shapes(tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(np.arange(4096, dtype=np.float32).tobytes())
    rows = FileRange(source, 0, 16384, ir.DataType.FLOAT, (64, 64))
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]>
        g (float[1] x) => (float[64,64] y, float[64,32,2] z)
        <float[64,64] a = ["location": "absent"],
         float[64,32,2] b = ["location": "absent"]>
        {
          y = Mul(x, a)
          z = Mul(x, b)
        }"""
    )
    model.graph.initializers["a"].const_value = LazyTensor(rows)
    model.graph.initializers["b"].const_value = LazyTensor(Reshaped(rows, (64, 32, 2)))

    save_model(model, tmp_path / "m.onnx")

    assert (tmp_path / "m.onnx.data").stat().st_size == 16384
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    y, z = session.run(None, {"x": np.ones(1, np.float32)})
    np.testing.assert_array_equal(y.reshape(-1), np.arange(4096))
    np.testing.assert_array_equal(z.reshape(-1), np.arange(4096))


def test_a_small_model_is_one_file_unless_weights_are_the_same(tmp_path, weight, monkeypatch):
    monkeypatch.setattr(saving, "_DATA_FROM", 1 << 20)
    save_model(weighted(weight), tmp_path / "one.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"one.onnx"}
    np.testing.assert_array_equal(
        load_model(tmp_path / "one.onnx").graph.initializers["w"].const_value.numpy(), weight
    )

    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[B,64] x) => (float[B,64] y)
        <float[64,64] v = ["location": "absent"], float[64,64] w = ["location": "absent"]>
        { a = MatMul(x, v)  y = MatMul(a, w) }"""
    )
    for name in ("v", "w"):
        model.graph.initializers[name].const_value = ir.tensor(weight, name=name)
    save_model(model, tmp_path / "two.onnx")
    assert (tmp_path / "two.onnx.data").stat().st_size == weight.nbytes


def test_what_a_reader_finds_again_is_not_written(tmp_path):
    """The type of a value in a loop, a name by place, and what is so by default; what is not stays."""
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[N,4] x, int64 m) => (float[N,4] z)
        <float[4,4] w = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, bool c = {1}> {
            [Gemm_0] y = Gemm<alpha = 1.0, beta = 0.5, transB = 0>(x, w)
            [kept] z = Loop<body = b (int64 i, bool ok, float[N,4] s) => (bool ok2, float[N,4] u)
                <float[N,4] t> { ok2 = Identity(ok)  t = Neg(s)  u = Neg(t) }>(m, c, y)
        }"""
    )
    save_model(model, tmp_path / "m.onnx")
    gemm, loop = onnx.load(tmp_path / "m.onnx").graph.node
    assert [node.name for node in (gemm, loop)] == ["", "kept"]
    assert [attribute.name for attribute in gemm.attribute] == ["beta"]
    assert not loop.attribute[0].g.value_info
    feeds = {"x": np.eye(4, dtype=np.float32), "m": np.asarray(2)}
    (z,) = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"]).run(None, feeds)
    np.testing.assert_array_equal(z, np.eye(4, dtype=np.float32))


def halves(weight: np.ndarray) -> ir.Model:
    """x @ u @ v @ w, each of 16 KiB; the first and the last are one."""
    model = parse(
        """<ir_version: 10, opset_import: ["" : 23]> g (float[B,64] x) => (float[B,64] y)
        <float[64,64] u = ["location": "absent"], float[64,64] v = ["location": "absent"],
         float[64,64] w = ["location": "absent"]>
        { a = MatMul(x, u)  b = MatMul(a, v)  y = MatMul(b, w) }"""
    )
    for name, array in (("u", weight), ("v", weight + 1), ("w", weight)):
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


def test_weights_go_on_in_a_next_file_where_one_is_full(tmp_path, weight):
    save_model(halves(weight), tmp_path / "m.onnx", DataFiles("_data", weight.nbytes + 100))

    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir() if p.suffix != ".onnx"}
    assert sizes == {"m.onnx_data": weight.nbytes, "m.onnx_data_1": weight.nbytes}
    loaded = load_model(tmp_path / "m.onnx").graph.initializers
    for name, array in (("u", weight), ("v", weight + 1), ("w", weight)):
        np.testing.assert_array_equal(loaded[name].const_value.numpy(), array)
    x = np.eye(64, dtype=np.float32)
    (y,) = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})
    np.testing.assert_allclose(y, weight @ (weight + 1) @ weight, rtol=1e-3, atol=1e-2)


def test_files_of_data_that_an_earlier_model_had_more_of_go_away(tmp_path, weight):
    save_model(halves(weight), tmp_path / "m.onnx", DataFiles("_data", weight.nbytes))
    save_model(halves(weight), tmp_path / "m.onnx", DataFiles("_data", 1 << 20))
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m.onnx_data"}

    (tmp_path / "n.onnx.data_1").write_bytes(b"of somebody else")
    save_model(halves(weight), tmp_path / "n.onnx")
    assert (tmp_path / "n.onnx.data_1").is_file()


def test_a_weight_that_no_file_may_hold_is_refused_and_nothing_is_left(tmp_path, weight):
    with pytest.raises(
        BadInput, match=r"weight 'u' takes 16,384 bytes, and a file of weights may have 16,383"
    ):
        save_model(halves(weight), tmp_path / "m.onnx", DataFiles("_data", weight.nbytes - 1))
    assert not list(tmp_path.iterdir())


def test_a_model_is_not_saved_over_a_second_file_that_it_reads(tmp_path, weight):
    files = DataFiles("_data", weight.nbytes)
    save_model(halves(weight), tmp_path / "m.onnx", files)
    with pytest.raises(BadInput, match=r"m.onnx_data_1 cannot be written: weight 'v' is read from it"):
        save_model(
            halves_but_for_the_first(load_model(tmp_path / "m.onnx"), weight), tmp_path / "m.onnx", files
        )


def halves_but_for_the_first(model: ir.Model, weight: np.ndarray) -> ir.Model:
    """`model`, of which only the second weight lies in a file."""
    for name in ("u", "w"):
        model.graph.initializers[name].const_value = ir.tensor(weight, name=name)
    return model
