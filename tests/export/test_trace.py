"""Tracing: the shortcuts change nothing, failures keep the exporter's words, sizes keep their names."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import transformers
from torch.onnx._internal.exporter import _fx_passes, _registration
from transformers.exporters import utils

from graphopt.errors import BadInput
from graphopt.export import quiet
from graphopt.export._faster import _rewrite, faster_export
from graphopt.export._names import rename
from graphopt.export._trace import CannotTrace, trace
from graphopt.families import ExportInputs
from graphopt.interface import Interface
from graphopt.ir import to_proto


class Small(torch.nn.Module):
    """As much of a transformers model as the exporter needs, computing `body(module, x)`."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.config = transformers.PretrainedConfig()
        self.weight = torch.nn.Parameter(torch.arange(16.0).reshape(4, 4) / 16)
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(self, x)

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name


INPUTS = ExportInputs({"x": torch.ones(2, 3, 4)}, {"x": ("batch", "rows", 4)}, ("y",))


def exported(body: Any) -> ir.Model:
    model = trace(Small(body).eval(), INPUTS)
    rename(model, INPUTS)
    return model


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    (y,) = ort.InferenceSession(to_proto(model).SerializeToString()).run(None, {"x": x})
    return np.asarray(y)


def casts(module: Small, x: torch.Tensor) -> torch.Tensor:
    mask = (x > 0) & (x < 2)
    y = x.to(torch.float64).to(x.dtype).to(torch.float32).contiguous() * mask.to(x.dtype)
    return (y @ module.weight).transpose(1, 2).reshape(x.shape[0], -1).contiguous()


def attention(module: Small, x: torch.Tensor) -> torch.Tensor:
    q = x.unsqueeze(1)
    return torch.nn.functional.scaled_dot_product_attention(q, q @ module.weight, q).squeeze(1)


def one_head_of_keys(module: Small, x: torch.Tensor) -> torch.Tensor:
    q = torch.stack([x, 2 * x, x @ module.weight], 1)
    return torch.nn.functional.scaled_dot_product_attention(q, q[:, :1], q[:, 1:2]).sum(1)


def in_place(module: Small, x: torch.Tensor) -> torch.Tensor:
    y = x @ module.weight
    y.add_(1)
    return y.relu_()


def seen_otherwise(module: Small, x: torch.Tensor) -> torch.Tensor:
    y = x @ module.weight
    view = y.transpose(1, 2)
    y.add_(1)
    return view.transpose(1, 2) + y


def of_an_input_as_it_is(module: Small, x: torch.Tensor) -> torch.Tensor:
    """In eval, dropout gives what it takes, and says nothing of it; torch's exporter believes that."""
    x = x * 2
    torch.nn.functional.dropout(x, 0.5, False).mul_(3)
    return x


def smaller(module: Small, x: torch.Tensor) -> torch.Tensor:
    return torch.min(torch.max(x, module.weight[0]), x * 2)


def norm(module: Small, x: torch.Tensor) -> torch.Tensor:
    mean, variance, gain, bias = module.weight.detach()
    return torch.nn.functional.batch_norm(x.transpose(1, 2), mean, variance + 1, gain, bias)


def plain_norm(module: Small, x: torch.Tensor) -> torch.Tensor:
    mean, variance, *_ = module.weight.detach()
    return torch.nn.functional.batch_norm(x.transpose(1, 2), mean, variance + 1)


@pytest.fixture
def unshortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.export._faster.faster_export", contextlib.nullcontext)


@pytest.fixture
def second_traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one for every graph that torch traces a second time."""
    made: list[str] = []
    original = torch.export.ExportedProgram.run_decompositions

    def counted(self: Any, *args: Any) -> Any:
        made.append("traced again")
        return original(self, *args)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", counted)
    return made


@pytest.mark.parametrize(
    "body",
    [
        *(casts, attention, one_head_of_keys, in_place, seen_otherwise),
        *(smaller, norm, plain_norm),
    ],
)
def test_a_graph_computes_what_the_module_does_at_other_sizes(body: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    expected = body(Small(body), torch.from_numpy(x)).detach().numpy()
    assert np.abs(run(exported(body), x) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("body", "times"),
    [
        *((casts, 0), (attention, 0), (in_place, 0), (smaller, 0), (norm, 0)),
        *((seen_otherwise, 1), (of_an_input_as_it_is, 1), (plain_norm, 1)),
    ],
)
def test_only_what_must_be_is_traced_again(body: Any, times: int, second_traces: list[str]) -> None:
    exported(body)
    assert len(second_traces) == times


@pytest.mark.parametrize("body", [casts, attention, in_place, smaller, norm])
def test_shortcuts_give_the_same_operators(
    body: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def census() -> Counter[str]:
        return Counter(n.op_type for n in exported(body).graph if n.op_type not in ("Identity", "Constant"))

    short = census()
    request.getfixturevalue("unshortened")
    assert short == census()


def test_a_single_head_of_keys_is_shared_and_not_repeated() -> None:
    (node,) = (n for n in exported(one_head_of_keys).graph if n.op_type == "Attention")
    assert node.inputs[1] is not None
    assert node.inputs[1].shape is not None
    assert node.inputs[1].shape[1] == 1


def test_shortcuts_are_undone_afterwards() -> None:
    operator: Any = torch.ops.aten.scaled_dot_product_attention.default

    def replaced() -> list[Any]:
        functions = [_fx_passes.decompose_with_registry, torch.tensor, utils.import_dotted_path]
        return [*functions, dict(operator.py_kernels), torch.fx.config.do_not_emit_stack_traces]

    before = replaced()
    with faster_export():
        assert all(a != b for a, b in zip(replaced()[2:], before[2:], strict=True))
    with pytest.raises(KeyError), faster_export():
        raise KeyError
    exported(casts)
    assert replaced() == before


def test_functions_of_torchlib_are_listed_once_as_torch_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed() -> list[tuple[Any, ...]]:
        return [
            (target, one.onnx_function, str(one.signature), one.is_complex, one.opset_introduced)
            for target, known in _registration.ONNXRegistry.from_torchlib().functions.items()
            for one in known
        ]

    before = listed()
    with faster_export():
        changed = _registration.ONNXRegistry.from_torchlib().functions
        changed.popitem()
        next(iter(changed.values())).clear()
        monkeypatch.setattr(_registration, "onnxscript_apis", None)
        assert listed() == before


def test_of_models_those_are_patched_that_are_loaded() -> None:
    absent, loaded = "transformers.models.yoso.modeling_yoso", "transformers.models.llama.modeling_llama"
    importlib.import_module(loaded)
    known = sys.modules.pop(absent, None)
    with faster_export():
        assert utils.import_dotted_path(f"{absent}.YosoModel", missing_ok=True) is None
        found = [utils.import_dotted_path(loaded), utils.import_dotted_path(f"{loaded}.LlamaModel")]
        with utils.apply_patches("dynamo"):
            assert absent not in sys.modules
    assert found == [sys.modules[loaded], sys.modules[loaded].LlamaModel]
    if known is not None:
        sys.modules[absent] = known


def test_what_makes_tensors_is_not_looked_up_while_it_is_replaced() -> None:
    """PyTorch keeps what it found: models loaded later would have tables that nobody filled."""
    known = torch.utils._device._device_constructors  # type: ignore[attr-defined]
    known.cache_clear()

    def looks_up(module: Small, x: torch.Tensor) -> torch.Tensor:
        with torch.device("meta"):
            torch.empty(0)
        return x + 1

    exported(looks_up)

    with torch.device("meta"):
        assert torch.tensor([]).device.type == "meta"
    assert known() == known.__wrapped__()


def test_sizes_have_the_given_names_throughout() -> None:
    model = exported(lambda module, x: x @ module.weight)
    assert Interface.of(model).inputs[0].dims == ("batch", "rows", 4)
    assert Interface.of(model).outputs[0].dims == ("batch", "rows", 4)
    inner = {
        str(d)
        for node in model.graph
        for v in node.outputs
        for d in (v.shape or ())
        if not isinstance(d, int)
    }
    assert inner <= {"batch", "rows"}


def test_a_derived_size_has_one_name() -> None:
    inputs = ExportInputs(
        {"x": torch.ones(2, 3), "y": torch.ones(2, 5)},
        {"x": ("batch", "new"), "y": ("batch", "past")},
        ("z",),
        derived={"total": "past + new"},
    )

    class Join(Small):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return torch.cat([y, x], dim=1)

    model = trace(Join(None).eval(), inputs)
    rename(model, inputs)
    assert Interface.of(model).outputs[0].dims == ("batch", "total")


def test_results_that_nobody_asked_for_are_left_out() -> None:
    class Chatty(Small):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            hidden = x @ self.weight
            return {"y": hidden + 1, "hidden": hidden}

    model = trace(Chatty(None).eval(), INPUTS)
    rename(model, INPUTS)
    x = np.ones((2, 3, 4), np.float32)
    assert [value.name for value in model.graph.outputs] == ["y"]
    np.testing.assert_allclose(run(model, x), x @ np.arange(16.0).reshape(4, 4) / 16 + 1, rtol=1e-6)


def test_a_result_that_is_missing_is_an_error() -> None:
    class Other(Small):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"a": x + 1, "b": x + 2}

    model = trace(Other(None).eval(), INPUTS)
    with pytest.raises(BadInput, match="the model does not give y: it gives "):
        rename(model, INPUTS)


def test_a_mask_for_all_queries_alike_has_a_row_for_each() -> None:
    def attend(module: Small, x: torch.Tensor) -> torch.Tensor:
        heads = x[:, None]
        hidden = (x[:, :, 0] < 0)[:, None, None, :] * -1e4
        return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, hidden)[:, 0]

    x = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    x[:, 0, 0] = 1
    expected = attend(Small(None), torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(exported(attend), x), expected, rtol=1e-5, atol=1e-6)


def test_a_size_that_tracing_fixes_is_refused() -> None:
    with pytest.raises(BadInput, match="only works for one rows size of 'x': tracing fixed it at 3"):
        exported(lambda module, x: x @ module.weight if x.shape[1] == 3 else x)


def test_a_failure_names_the_architecture_and_keeps_the_exporters_words() -> None:
    def dependent(module: Small, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("planted: no way to trace this")

    with quiet(), pytest.raises(CannotTrace, match="Small cannot be exported") as caught:
        exported(dependent)
    assert "planted: no way to trace this" in str(caught.value)
    assert not caught.value.needs_data


def test_a_graph_that_torch_did_not_finish_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CannotTrace):
        exported(lambda module, x: x + 1 if x.sum() > 0 else x)
    assert capfd.readouterr() == ("", "")


def test_a_constant_handed_on_without_a_record_is_translated() -> None:
    """Traces detach the constants that code makes, and record of that nothing an exporter could read."""
    graph = torch.fx.Graph()
    constant = graph.placeholder("constant")
    detached = graph.call_function(torch.ops.aten.detach.default, (constant,))
    graph.output(graph.call_function(torch.ops.aten.neg.default, (detached,)))
    module = torch.fx.GraphModule({}, graph)
    _rewrite(module)

    assert [node.op for node in module.graph.nodes] == ["placeholder", "call_function", "output"]
    assert module(torch.ones(1)) == -1
