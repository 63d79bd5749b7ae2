"""Each rule finds what it is about, on the smallest graph that has it, and nothing beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from graphopt.build import LintReport, lint
from graphopt.plugins import registry
from tests.lint._planted import PLANTED

NBITS = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
g (float[rows,64] x{inputs}) => (float[rows,16] y)
{{
  y = com.microsoft.MatMulNBits
    <K = 64, N = 16, bits = {bits}, block_size = {block}, accuracy_level = {level}>
    (x, w, s{more})
}}
"""


def nbits(bits: int = 4, block: int = 32, level: int = 4, inputs: str = "", more: str = "") -> str:
    weights = f", uint8[16,{64 // block},{block * bits // 8}] w, float[16,{64 // block}] s"
    return NBITS.format(bits=bits, block=block, level=level, inputs=weights + inputs, more=more)


SWISH = """
<ir_version: 10, opset_import: ["" : 24]>
g (float[rows,8] x) => (float[rows,8] y) { y = Swish(x) }
"""
UNKNOWN = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
g (float[rows,8] x) => (float[rows,8] y) { y = com.microsoft.NoSuchThing(x) }
"""
RMS_NORM = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[rows,8] x) => (float[rows,8] y)
<float two = {2.0}, float e = {0.00001}, int64[1] last = {-1}, float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
{
  a = Pow(x, two)
  b = ReduceMean<keepdims = 1>(a, last)
  c = Add(b, e)
  d = Sqrt(c)
  f = Reciprocal(d)
  h = Mul(x, f)
  y = Mul(h, w)
}
"""
ROTARY = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,2,S,4] x, int64[B,S] position_ids) => (float[B,2,S,4] y)
<float[8,4] ctable = TABLE, float[8,4] stable = TABLE, int64[1] one = {1}, int64[2] two = {2, 2}>
{
  c = Gather(ctable, position_ids)
  s = Gather(stable, position_ids)
  cos = Unsqueeze(c, one)
  sin = Unsqueeze(s, one)
  low, high = Split<axis = 3>(x, two)
  back = Neg(high)
  rotated = Concat<axis = 3>(back, low)
  straight = Mul(x, cos)
  across = Mul(rotated, sin)
  y = Add(straight, across)
}
"""
ROTARY = ROTARY.replace("TABLE", f"{{{', '.join(str((i // 4 + i % 2) / 10) for i in range(32))}}}")
ANGLES = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[B,2,S,4] x, int64[B,S] position_ids) => (float[B,2,S,4] y)
<float[1,2,1] inverse = {1.0, 0.25}, int64[1] one = {1}, int64[2] two = {2, 2}>
{
  rows = Unsqueeze(position_ids, one)
  floats = Cast<to = 1>(rows)
  angles = MatMul(inverse, floats)
  turned = Transpose<perm = [0, 2, 1]>(angles)
  both = Concat<axis = -1>(turned, turned)
  c = Cos(both)
  s = Sin(both)
  cos = Unsqueeze(c, one)
  sin = Unsqueeze(s, one)
  low, high = Split<axis = 3>(x, two)
  back = Neg(high)
  rotated = Concat<axis = 3>(back, low)
  straight = Mul(x, cos)
  across = Mul(rotated, sin)
  y = Add(straight, across)
}
"""
TURNED_BACK = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch,4,6] x) => (float[batch,4,6] y)
{
  a = Transpose<perm = [0, 2, 1]>(x)
  b = Relu(a)
  y = Transpose<perm = [0, 2, 1]>(b)
}
"""
CAST_BACK = """
<ir_version: 10, opset_import: ["" : 23]>
g (float16[rows,8] x) => (float16[rows,8] y)
{
  a = Neg(x)
  b = Cast<to = 1>(a)
  c = Cast<to = 10>(b)
  y = Abs(c)
}
"""
GROWING = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch,2,past,8] past_k, float[batch,2,new,8] k) => (float[batch,2,total,8] present_k)
{ present_k = Concat<axis = 2>(past_k, k) }
"""
FROZEN = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch,12,8] x) => (float[24,8] y)
<int64[2] shape = {24, 8}>
{ y = Reshape(x, shape) }
"""
POSITIONS = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch,sequence,2] x) => (float[batch,sequence,2] y)
<float[1,3,2] table = {1, 2, 3, 4, 5, 6}>
{ y = Add(x, table) }
"""


BACKWARDS = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,4] x) => (float[n,4] y) <int64 none = {0}, int64 one = {1}, int64 down = {-1}> {
  s = Shape<start = 0, end = 1>(x) n = Squeeze(s) last = Sub(n, one)
  places = Range(last, down, down) y = Gather(x, places)
}
"""
PADDED_BY_NAME = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,3,4,5] x) => (float[a,b,c,d] y) <int64[2] axes = {1, 2}, int64[4] pads = {1, 2, 1, 2}> {
  t = Transpose<perm = [0, 2, 3, 1]>(x) y = Pad(t, pads, , axes)
}
"""


def linted(tmp_path: Path, source: str | onnx.ModelProto, **options: Any) -> LintReport:
    model = onnx.parser.parse_model(source) if isinstance(source, str) else source
    onnx.save(model, tmp_path / "model.onnx")
    return lint(tmp_path / "model.onnx", **options)


def codes(report: LintReport) -> list[str]:
    return [rule.code for rule, _ in report.by_rule()]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (nbits(level=0), "GO101"),
        (nbits(8, level=1), "GO101"),
        (nbits(inputs=", float[16,2] z", more=", z"), "GO102"),
        (nbits(inputs=", uint8[16,1] z, int32[64] g", more=", z, g"), "GO103"),
        (nbits(inputs=", int32[64] g", more=', "", g'), "GO104"),
        (nbits(2, 16), "GO105"),
        (nbits(4, 8), "GO105"),
        (UNKNOWN, "GO106"),
        (SWISH, "GO107"),
        (RMS_NORM, "GO201"),
        (ROTARY, "GO202"),
        (ANGLES, "GO202"),
        (TURNED_BACK, "GO204"),
        (CAST_BACK, "GO204"),
        (BACKWARDS, "GO206"),
        (PADDED_BY_NAME, "GO206"),
        (GROWING, "GO301"),
        (FROZEN, "GO401"),
        (POSITIONS, "GO401"),
    ],
)
def test_a_rule_finds_what_it_is_about(tmp_path: Path, source: str, code: str) -> None:
    assert codes(linted(tmp_path, source)) == [code]


@pytest.mark.parametrize(
    "source",
    [
        nbits(),
        nbits(8),
        nbits(2, 32, inputs=", uint8[16,1] z", more=", z"),
        SWISH.replace("Swish(x)", "Gelu(x)"),
        SWISH.replace("y = Swish(x)", "s = Sigmoid(x) y = Mul(x, s)"),
        TURNED_BACK.replace("y = Transpose<perm = [0, 2, 1]>(b)", "y = Identity(b)").replace(
            "(float[batch,4,6] y)", "(float[batch,6,4] y)"
        ),
        CAST_BACK.replace("to = 1>", "to = 6>"),
        BACKWARDS.replace("Range(last, down, down)", "Range(none, n, one)"),
        PADDED_BY_NAME.replace("Transpose<perm = [0, 2, 3, 1]>(x)", "Relu(x)"),
        GROWING.replace("present_k = Concat<axis = 2>(past_k, k)", "present_k = Add(past_k, k)")
        .replace("new,8", "past,8")
        .replace("total,8", "past,8"),
        FROZEN.replace("{24, 8}", "{-1, 8}").replace("float[24,8] y", "float[n,8] y"),
        FROZEN.replace("float[batch,12,8] x", "float[2,12,8] x"),
        POSITIONS.replace("float[1,3,2] table", "float[1,1,2] table").replace("{1, 2, 3, 4, 5, 6}", "{1, 2}"),
    ],
)
def test_what_is_as_it_should_be_is_not_found(tmp_path: Path, source: str) -> None:
    assert codes(linted(tmp_path, source)) == []


@pytest.mark.parametrize("name", PLANTED)
def test_what_tools_leave_is_found(tmp_path: Path, name: str) -> None:
    planted = PLANTED[name](tmp_path / "made")
    assert set(codes(linted(tmp_path, planted.model))) == planted.codes


def test_findings_name_nodes_of_the_file(tmp_path: Path) -> None:
    planted = PLANTED["an optimum-style int8 file"](tmp_path / "made")
    names = {node.name for node in planted.model.graph.node}
    report = linted(tmp_path, planted.model)

    assert len(report.found) == 4 + 2  # norms and attentions of two layers
    assert {finding.node for _, finding in report.found} <= names


def test_equal_weights_and_written_out_constants(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[rows,512] x) => (float[rows,512] y, float[rows,512] z)
        { a = MatMul(x, v) y = MatMul(a, w) z = Mul(a, m) }
    """)
    weight = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    row = np.broadcast_to(weight[:1], (512, 512))
    arrays = {"v": weight, "w": weight.copy()}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items())

    assert codes(linted(tmp_path, _with(model, "m", weight[:1]))) == ["GO501"]
    grown = _with(model, "m", np.ascontiguousarray(row))
    report = linted(tmp_path, grown)
    assert "GO502" in codes(report)
    (expanded,) = (finding for rule, finding in report.found if rule.code == "GO502")
    assert expanded.node == "m"
    assert "the same 512 times along axis 0" in expanded.text


def _with(model: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return made


HEAD = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
g (float[rows,64] x, uint8[64,2,16] w, float[64,2] s) => (float[rows,256] y)
{
  h = com.microsoft.MatMulNBits <K = 64, N = 64, bits = 4, block_size = 32, accuracy_level = 4>(x, w, s)
  y = MatMul(h, v)
}
"""


@pytest.mark.parametrize(("dtype", "found"), [(np.float32, ["GO302"]), (None, [])])
def test_a_head_in_floats_beside_weights_in_blocks(
    tmp_path: Path, dtype: type | None, found: list[str]
) -> None:
    source = HEAD if dtype else HEAD.replace("y = MatMul(h, v)", "y = Neg(h)").replace("256] y", "64] y")
    model = onnx.parser.parse_model(source)
    if dtype is not None:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 256), dtype), "v"))
    assert codes(linted(tmp_path, model)) == found


CONFIG: dict[str, Any] = {
    "model": {
        "type": "decoder",
        "decoder": {
            "filename": "model.onnx",
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "head_size": 128,
            "session_options": {"log_id": "onnxruntime-genai"},
        },
    },
    "search": {"max_length": 256, "past_present_share_buffer": True},
}
LOGITS = """
<ir_version: 10, opset_import: ["" : 23]>
g (float[batch,sequence,8] x) => (float[batch,sequence,4] logits)
<float[8,4] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}>
{ h = Relu(x) logits = MatMul(h, w) }
"""


def configured(tmp_path: Path, threads: int | None, length: int) -> Path:
    config = json.loads(json.dumps(CONFIG))
    config["search"]["max_length"] = length
    if threads is not None:
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    onnx.save(onnx.parser.parse_model(LOGITS), tmp_path / "model.onnx")
    return tmp_path


@pytest.mark.parametrize(
    ("threads", "length", "found"),
    [
        (1, 256, []),
        (None, 256, ["GO601"]),
        (4096, 256, ["GO601"]),
        (1, 1 << 24, ["GO602"]),
    ],
)
def test_settings_of_genai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, length: int, found: list[str]
) -> None:
    """On a machine with two hardware threads, of which onnxruntime-genai would take one."""
    monkeypatch.setattr("graphopt_models._genai_rules.default_threads", lambda: 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert codes(lint(configured(tmp_path, threads, length), ignore=["GO303"])) == found


def test_genai_takes_half_of_the_hardware_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt_models._genai_rules.default_threads", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert codes(lint(configured(tmp_path, None, 256), ignore=["GO303"])) == []


def test_logits_of_every_position_where_genai_reads_the_last(tmp_path: Path) -> None:
    folder = configured(tmp_path, 1, 256)
    assert codes(lint(folder)) == ["GO303"]
    (folder / "genai_config.json").unlink()
    assert codes(lint(folder)) == []


def test_rules_may_be_chosen_and_left_out(tmp_path: Path) -> None:
    planted = PLANTED["an optimum-style int8 file"](tmp_path / "made")
    assert codes(linted(tmp_path, planted.model, only=["GO203"])) == ["GO203"]
    assert codes(linted(tmp_path, planted.model, ignore=["GO203"])) == ["GO201"]


def test_another_target_finds_something_else(tmp_path: Path) -> None:
    """Standard operators alone: what the CPU runs best is no operator there."""
    assert codes(linted(tmp_path, nbits())) == []
    assert codes(linted(tmp_path, nbits(), target="portable")) == ["GO106"]
    assert codes(linted(tmp_path, nbits(), target="openvino")) == []  # whose table says nothing of blocks
    assert codes(linted(tmp_path, nbits(), target="coreml")) == ["GO110"]
    assert codes(linted(tmp_path, nbits(2, 32), target="cuda")) == ["GO105"]
    assert codes(linted(tmp_path, nbits(2, 32))) == []


def test_codes_are_those_that_were_given_out() -> None:
    """A code never means something else: a rule that goes leaves its code unused."""
    given = {
        "GO101": "accuracy-level",
        "GO102": "float-zero-points",
        "GO103": "ignored-zero-points",
        "GO104": "ordered-columns",
        "GO105": "block-size",
        "GO106": "no-kernel",
        "GO107": "expanded-operator",
        "GO108": "dequantized-every-call",
        "GO109": "signed-activations",
        "GO110": "left-to-another-provider",
        "GO201": "unfused-norm",
        "GO202": "unfused-rotary-embedding",
        "GO203": "unfused-attention",
        "GO204": "needless-moves",
        "GO205": "batch-normalization",
        "GO206": "changed-at-load",
        "GO301": "growing-cache",
        "GO302": "float-head",
        "GO303": "all-logits",
        "GO401": "frozen-size",
        "GO501": "stored-twice",
        "GO502": "folded-expansion",
        "GO601": "threads",
        "GO602": "max-length",
    }
    assert {code: rule.name for code, rule in registry.rules().items()} == given
    passes = registry.passes()
    assert all(step.name in passes for rule in registry.rules().values() for step in rule.mends)
