"""A graph made of few layers is the one that tracing all gives; where layers are unlike, all are traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import transformers

from graphopt.export import _alike, _trace
from graphopt.export._alike import Unlike, alike_layers
from graphopt.export._config import choose_family
from graphopt.export._names import rename
from graphopt.export._repeat import renumber
from graphopt.export._skeleton import build_skeleton
from graphopt.families import ExportInputs
from graphopt.ir import to_proto
from tests._models import KINDS

INPUTS = ExportInputs({"x": torch.ones(2, 3, 4)}, {"x": ("batch", "rows", 4)}, ("y",))


class Layer(torch.nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.weight = torch.nn.Parameter(torch.eye(4) + index / 8)
        self.gain = 1.0

    def forward(self, x: torch.Tensor, start: torch.Tensor) -> Any:
        return torch.relu(x @ self.weight) * self.gain + start


class Deep(torch.nn.Module):
    """Layers of `kind`, one after the other, each given what the first was given, too."""

    def __init__(self, kind: type[Layer] = Layer, count: int = 9, ends: bool = True, **config: Any) -> None:
        super().__init__()
        self.config = transformers.PretrainedConfig(ends=ends, **config)
        self.layers = torch.nn.ModuleList([kind(index) for index in range(count)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = start = x + 1
        for layer in self.layers:
            hidden = layer(hidden, start)
        return hidden - 1 if self.config.ends else hidden

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name


class ByThreshold(Layer):
    def forward(self, x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        return super().forward(x, start) if self.index < 5 else x @ self.weight


class ByTurns(Layer):
    def forward(self, x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        return super().forward(x, start) * (2 if self.index % 2 else 3)


class ByNumber(Layer):
    def forward(self, x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        return super().forward(x, start) / (self.index + 1)


class Told(Deep):
    """What a layer in the middle gives is an output."""

    def forward(self, x: torch.Tensor) -> Any:
        given = [x + 1]
        for layer in self.layers:
            given.append(layer(given[-1], given[0]))
        return given[-1] + 0, given[2]


class Backwards(Deep):
    """What a layer gives is read by others than the next."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = [x + 1]
        for layer in self.layers:
            given.append(layer(given[-1], given[0]))
        return given[-1] + sum(given[1:4])


def short(model: Any) -> ir.Model:
    """Raises `Unlike` where the layers are only found to be so when they are traced."""
    stack = alike_layers(model)
    assert stack is not None
    with _trace._ready(model, INPUTS):
        return _trace._shortened(model, INPUTS, stack)


def listed(model: ir.Model) -> list[Any]:
    """All that a graph holds, by name; sizes of inputs by the name of the size, whichever input says it."""
    sizes: dict[str | None, str] = {}
    for node in model.graph:
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "Shape" and source is not None and source.is_graph_input():
            assert source.shape is not None
            sizes[node.outputs[0].name] = f"size {source.shape[node.attributes['start'].as_int()]}"
        elif node.op_type == "Squeeze" and source is not None and source.name in sizes:
            sizes[node.outputs[0].name] = f"number {sizes[source.name]}"

    def shown(value: ir.Value | None) -> Any:
        if value is None or value.name in sizes:
            return value and sizes[value.name]
        return value.name, str(value.shape), value.dtype

    nodes = [
        (
            node.name,
            node.op_identifier(),
            {name: str(a.value) for name, a in node.attributes.items()},
            [shown(value) for value in node.inputs],
            [shown(value) for value in node.outputs],
        )
        for node in model.graph
        if node.outputs[0].name not in sizes
    ]
    ends = [*model.graph.inputs, *model.graph.initializers.values(), *model.graph.outputs]
    return [sorted(sizes.values()), [shown(value) for value in ends], *nodes]


def whole(trace: Callable[[], ir.Model], monkeypatch: pytest.MonkeyPatch) -> ir.Model:
    """What `trace` gives where all layers are traced, its nodes numbered in their order."""
    with monkeypatch.context() as patch:
        patch.setattr(_trace, "_of_few_layers", lambda *_: None)
        model = trace()
    renumber(model.graph)
    return model


@pytest.mark.parametrize(("count", "ends"), [(8, True), (9, False)], ids=["even", "odd-without-a-head"])
def test_copies_are_what_tracing_gives(count: int, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Deep(count=count, ends=ends).eval()
    made, traced = short(deep), whole(lambda: _trace.trace(deep, INPUTS), monkeypatch)
    assert listed(made) == listed(traced)
    weights = {name: v.const_value for name, v in made.graph.initializers.items()}
    for name, parameter in deep.named_parameters():
        tensor = weights[name]
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), parameter.detach().numpy())


def test_a_model_of_alike_layers_is_made_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    deep, calls = Deep().eval(), []
    forward = Layer.forward
    monkeypatch.setattr(Layer, "forward", lambda self, *a: calls.append(self.index) or forward(self, *a))
    model = _trace.trace(deep, INPUTS)
    rename(model, INPUTS)
    assert sorted({*calls}) == [0, 1, 8]
    x = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    (y,) = ort.InferenceSession(to_proto(model).SerializeToString()).run(None, {"x": x})
    monkeypatch.undo()
    expected = deep(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_a_decoder_made_of_three_layers_is_the_traced_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_alike, "_FEWEST", 5)
    kind = KINDS["llama"]
    config = transformers.AutoConfig.for_model("llama", **(kind.config | {"num_hidden_layers": 5}))
    config.architectures = ["LlamaForCausalLM"]
    family, task = choose_family(config, "auto")
    (part,) = family.parts(task).values()

    def traced() -> ir.Model:
        model = build_skeleton(getattr(transformers, kind.auto), config).model
        assert alike_layers(model) is not None
        with part.tracing(model):
            inputs = part.export_inputs(model, task)
            made = _trace.trace(model, inputs)
        rename(made, inputs)
        return made

    made = traced()
    assert any("model.layers.3." in name for name in made.graph.initializers)
    assert all(use.node.graph is made.graph for value in made.graph.inputs for use in value.uses())
    full = whole(traced, monkeypatch)
    assert listed(made) == listed(full)


@pytest.mark.parametrize("kind", [ByThreshold, ByTurns, ByNumber])
def test_layers_that_go_by_their_number_are_unlike(kind: type[Layer]) -> None:
    with pytest.raises(Unlike, match="differ"):
        short(Deep(kind).eval())


def test_layers_that_others_than_the_next_read_are_unlike() -> None:
    with pytest.raises(Unlike, match="hand"):
        short(Backwards().eval())
    with pytest.raises(Unlike, match="is an output"):
        short(Told().eval())


def test_layers_that_give_two_values_are_unlike() -> None:
    class Pair(Layer):
        def forward(self, x: Any, start: torch.Tensor) -> Any:
            x = x[0] if isinstance(x, tuple) else x
            return super().forward(x, start), x

    deep = Deep(Pair)
    deep.forward = lambda x: _last(deep, x)  # type: ignore[method-assign]
    with pytest.raises(Unlike, match="more than one tensor"):
        short(deep.eval())


def _last(deep: Deep, x: torch.Tensor) -> torch.Tensor:
    hidden: Any = x
    for layer in deep.layers:
        hidden = layer(hidden, x)
    return hidden[0]


def _change(index: int, name: str, value: Any) -> Callable[[Deep], None]:
    return lambda deep: setattr(deep.layers[index], name, value)


@pytest.mark.parametrize(
    "change",
    [
        _change(4, "gain", 2.0),
        _change(4, "index", 5),
        _change(4, "more", True),
        _change(4, "weight", torch.nn.Parameter(torch.ones(4, 5))),
        lambda deep: setattr(deep.layers[4], "weight", deep.layers[3].weight),
        lambda deep: deep.layers.__setitem__(4, ByTurns(4)),
        lambda deep: deep.config.update({"kinds": ["full"] * 8 + ["sliding"]}),
        lambda deep: deep.add_module("others", torch.nn.ModuleList([Layer(i) for i in range(8)])),
        lambda deep: deep.layers.__delitem__(slice(2)),
    ],
    ids=["attribute", "number", "extra", "shape", "shared", "class", "configured", "two-stacks", "few"],
)
def test_layers_are_alike_in_all_but_weights_and_number(change: Callable[[Deep], Any]) -> None:
    deep = Deep(kinds=["full"] * 9)
    assert alike_layers(deep) is not None
    change(deep)
    assert alike_layers(deep) is None


def test_what_fails_short_is_traced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Deep(ByThreshold).eval()
    model = _trace.trace(deep, INPUTS)
    assert sum(node.op_type == "Relu" for node in model.graph) == 5
