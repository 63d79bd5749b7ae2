"""A slice of the corpora: backend cases in every variation, and exported graphs of many architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from graphopt import BadInput, CheckFailed
from graphopt.ir import to_proto
from tests.corpus import _check
from tests.corpus._cases import Case, read
from tests.corpus._check import _session, by_default, check, check_whole
from tests.corpus._examine import _said
from tests.corpus._families import FAMILIES
from tests.corpus._variations import CONDITION, VARIATIONS, Unsuited
from tests.corpus._what_stayed import lowering_of
from tests.corpus.graphs import FOLDER, census, domain_of, files_of, lower
from tests.corpus.graphs import read as read_graph

# Each stands for a kind: an operator, a graph in an attribute, a type, an age.
CASES = """
test_abs test_add_bcast test_attention_3d_gqa test_attention_4d_fp16_expanded test_bitcast_int8_to_uint8
test_clip_default_int8_inbounds_expanded test_concat_1d_axis_0 test_constant
test_convinteger_without_padding test_cumsum_1d test_dynamicquantizelinear_expanded test_dropout_default
test_einsum_transpose test_gather_negative_indices test_gelu_tanh_1_expanded test_gemm_all_attributes
test_identity_sequence test_if test_if_seq test_layer_normalization_3d_axis2_epsilon_expanded test_loop11
test_max_float64 test_nonzero_example test_qlinearmatmul_2D_int8_float16
test_range_float_type_positive_delta test_reshape_zero_dim test_rms_normalization_2d_axis0
test_rotary_embedding test_scan9_sum test_sequence_insert_at_back test_split_to_sequence_1
test_string_concat test_swish test_tfidfvectorizer_tf_batch_onlybigrams_skip0 test_ai_onnx_ml_binarizer
test_AvgPool1d test_operator_reduced_mean_keepdim test_affine_grid_3d test_affine_grid_2d_expanded test_if_opt
test_sequence_map_add_2_sequences_expanded
"""
# onnxruntime cannot load the original: no If gives sequences at opset 11.
UNLOADABLE = {("test_sequence_insert_at_back", "in an If")}
GRAPHS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("name", CASES.split())
def test_a_backend_case_is_equal_in_every_variation(name: str) -> None:
    case = read(name)
    found = {variation: check(case, variation, lambda stage: None) for variation in VARIATIONS}
    expected = {v: "runtime: cannot run" if (name, v) in UNLOADABLE else "equal" for v in VARIATIONS}
    assert {v: f for v, f in found.items() if f["outcome"] not in (expected[v], "unsuited")} == {}


def test_a_wrong_result_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    original = _check._optimized
    monkeypatch.setattr(
        _check, "_optimized", lambda *given: [[y + 0.01 for y in out] for out in original(*given)]
    )
    assert check(read("test_add_bcast"), "as it is", lambda stage: None)["outcome"] == "differs"


def test_a_wrong_expectation_is_the_runtimes() -> None:
    case = read("test_abs")
    wrong = Case(case.name, case.model, case.feeds, [case.expected[0] + 1], case.rtol, case.atol)
    assert check(wrong, "as it is", lambda stage: None)["outcome"] == "runtime: differs"


# An opset of its own, floats that must be between 0 and 1, a sequence.
@pytest.mark.parametrize("name", ["test_operator_permute2", "test_dropout_default_ratio", "test_if_seq"])
def test_a_backend_case_is_equal_at_the_defaults(name: str) -> None:
    assert check_whole(name, by_default, lambda stage: None) == {"outcome": "equal", "reason": ""}


def raising(error: Exception) -> _check.Optimize:
    def optimized(path: Path, calls: _check.Calls) -> list[list[Any]]:
        raise error

    return optimized


def saving(model: onnx.ModelProto) -> _check.Optimize:
    def optimized(path: Path, calls: _check.Calls) -> list[list[Any]]:
        onnx.save(model, path.with_name("after.onnx"))
        return _check.loaded(path.with_name("after.onnx"), calls)

    return optimized


@pytest.mark.parametrize(
    ("optimized", "outcome"),
    [
        (raising(_check.Refused("too old")), "refused"),
        (raising(_check.Died("SIGSEGV")), "crashed"),
        (raising(ValueError("a bug")), "crashed"),
        (raising(CheckFailed("no")), "stopped"),
        (raising(BadInput("no")), "refused"),
        (saving(onnx.ModelProto()), "invalid"),
        (saving(read("test_neg").model), "differs"),
        (saving(read("test_abs").model), "equal"),
    ],
)
def test_what_becomes_of_a_case_is_told(optimized: _check.Optimize, outcome: str) -> None:
    assert check_whole("test_abs", optimized, lambda stage: None)["outcome"] == outcome


def test_variations_hold_what_their_names_say() -> None:
    case = read("test_add_bcast")
    constant, _ = VARIATIONS["inputs constant"](case)
    assert not constant.graph.input
    assert len(constant.graph.initializer) == 2
    twice, _ = VARIATIONS["twice"](case)
    assert [node.op_type for node in twice.graph.node] == ["Add", "Add"]
    assert len(twice.graph.output) == 2
    branches, calls = VARIATIONS["in an If"](case)
    assert [node.op_type for node in branches.graph.node] == ["If"]
    assert [bool(feeds[CONDITION]) for feeds in calls] == [True, False]
    for model in (constant, twice, branches):
        onnx.checker.check_model(model)


def test_a_case_without_inputs_has_none_to_make_constant() -> None:
    with pytest.raises(Unsuited, match="no inputs"):
        VARIATIONS["inputs constant"](read("test_constant"))


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_an_exported_model_is_lowered_as_far_as_before_and_gives_the_same(path: Path) -> None:
    header, model = read_graph(path)
    original = _session(to_proto(model).SerializeToString())
    domain = domain_of(model, header)

    lower(model, header)

    assert census(model) == {key: json.loads(header[key]) for key in ("lowered", "layer")}
    lowered = _session(to_proto(model).SerializeToString())
    for case in domain.cases(np.random.default_rng(0)):
        names, feeds = list(case.compare), dict(case.feeds)
        expected = dict(zip(names, original.run(names, feeds), strict=True))
        if "logits_to_keep" in model.graph.initializers:
            feeds["logits_to_keep"] = np.asarray([feeds["input_ids"].shape[1]])
        results = dict(zip(names, lowered.run(names, feeds), strict=True))
        for name, where in case.compare.items():
            chosen = np.broadcast_to(where, expected[name].shape)
            difference = np.abs(results[name] - expected[name])[chosen].max(initial=0)
            assert difference <= 1e-3 * expected[name][chosen].std(), (case.name, name)


def test_every_family_has_its_graph() -> None:
    assert set(GRAPHS) == {path for name in FAMILIES for path in files_of(name).values()}


def test_a_reason_names_no_temporary_folder(tmp_path: Path) -> None:
    error = ValueError(f"Nothing was installed:\n {tmp_path}/package is as it was")
    assert _said(error, tmp_path) == "ValueError: Nothing was installed: package is as it was"


def test_what_is_left_of_attention_and_norms_is_seen() -> None:
    plain = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[1,2,3,4] q, float[1,2,4,3] k, float[1,2,3,4] v, int64[1] last) => (float[1,2,3,4] y) {
            s = MatMul(q, k)  w = Softmax<axis = -1>(s)  a = MatMul(w, v)
            sq = Mul(a, a)  m = ReduceMean(sq, last)  r = Sqrt(m)  y = Div(a, r)
        }
    """)
    found = lowering_of(ir.from_proto(plain), "causal", attentions=1, norms=1)
    assert found.stayed == ["1 x attention as MatMul and Softmax", "1 of 1 norms (1 x ReduceMean)"]
    assert found.kernels == {}


def test_the_kernel_of_a_dynamic_convolution_is_no_attention() -> None:
    convolution = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[1,3,4] x, float[3,4,2] v) => (float[3,4,1] y)
        <float[4,2] weight = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] bias = {1, 2}, int64[3] row = {-1, 2, 1}> {
            p = MatMul(x, weight)  b = Add(p, bias)  r = Reshape(b, row)
            w = Softmax<axis = 1>(r)  y = MatMul(v, w)
        }
    """)
    assert lowering_of(ir.from_proto(convolution), "masked", attentions=0, norms=0).stayed == []
