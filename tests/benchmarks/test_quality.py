"""Damage is kept by what it was measured on, sizes are counted alike, and goals are computed from results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from safetensors.numpy import save_file

from graphopt.metrics import Estimate
from tests._cache import ROOT
from tests.benchmarks.test_render import typed

Script = Callable[[str], ModuleType]


def kept(script: Script, *divergence: float, size: int = 100) -> Any:
    """Windows of ten tokens whose divergences vary around these."""
    parts = tuple(value * np.linspace(0.5, 1.5, 10) for value in divergence)
    return script("_kept").Kept("x", size, parts, tuple(np.ones(10) for _ in divergence))


@pytest.mark.parametrize("opening", [[], [0]])
def test_calibration_windows_begin_as_the_model_expects_and_do_not_overlap(
    script: Script, tmp_path: Path, opening: list[int]
) -> None:
    source = ROOT / "models" / "tiny_coder"
    about = json.loads((source / "tokenizer.json").read_text())
    special = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    begin = [{"SpecialToken": {"id": special["id"], "type_id": 0}}] if opening else []
    text_itself: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}
    about["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [*begin, text_itself],
        "pair": [text_itself, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {special["id"]: special},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(about))
    ids = script("_lms").Tokenizer(source).plain((source / "calibration.txt").read_text())

    rows = script("_calibration").windows(tmp_path)

    begun, rest = rows[:, : len(opening)], rows[:, len(opening) :]
    assert rows.shape[1] == 512
    assert (begun == opening).all()
    assert rest.ravel().tolist() == ids[: rest.size]
    assert len(ids) - rest.size < rest.shape[1]


def test_importance_is_the_mean_square_of_what_a_layers_linears_read(script: Script, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "vocab_size": 32}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).eval()
    model.save_pretrained(tmp_path)
    tokens = np.asarray([[1, 2, 3], [4, 5, 6]])

    found = script("_importance").importance(tmp_path, tokens)

    with torch.inference_mode():
        read = model.model.layers[0].input_layernorm(model.model.embed_tokens(torch.from_numpy(tokens)))
    expected = (read.double() ** 2).mean((0, 1)).float().numpy()
    for name in "qkv":
        assert np.allclose(found[f"model.layers.0.self_attn.{name}_proj.weight"], expected, rtol=1e-6)
    assert len(found) == 7  # and none of the head's


def test_what_is_kept_comes_back_whole(script: Script, tmp_path: Path) -> None:
    one = kept(script, 0.1, 0.2)
    one.save(tmp_path / "a" / "b.npz")
    back = script("_kept").load(tmp_path / "a" / "b.npz")

    assert (back.made, back.size) == (one.made, one.size)
    assert all(map(np.array_equal, back.divergence, one.divergence))
    assert back.mean() == one.mean()
    assert script("_kept").load(tmp_path / "none.npz") is None


def test_only_what_has_changed_is_measured_again(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, floor = script("_kept"), script("_contenders").FLOOR
    source = tmp_path / "source"
    source.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (source / name).write_text("{}")
    runs: list[str] = []

    def logits_of(recipe: Any, *_: Any) -> Any:
        runs.append(recipe.name)
        return lambda tokens: np.eye(4)[: len(tokens)]

    monkeypatch.setattr(module, "logits_of", logits_of)
    texts = [np.asarray([1, 2, 3])]

    def measure(texts: list[Any] = texts) -> Any:
        return module.measured(
            floor, source, tmp_path / "work", texts, lambda: lambda tokens: np.ones((len(tokens), 4))
        )

    first, again = measure(), measure()
    assert len(runs) == 1
    assert first.mean() == again.mean()
    measure([np.asarray([1, 2, 0])])  # another text
    (source / "model.safetensors").write_text("other weights")
    measure([np.asarray([1, 2, 0])])
    assert len(runs) == 3


def test_an_identity_is_of_the_command_and_the_weights_but_not_of_where_they_are(
    script: Script, tmp_path: Path
) -> None:
    module = script("_contenders")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for file in ("model.safetensors", "config.json", "tokenizer.json"):
            (tmp_path / name / file).write_text("{}")
    recipes = [*module.PEERS, *module.FIXED]
    one, two = ([module.identity(r, tmp_path / name) for r in recipes] for name in ("one", "two"))

    assert one == two
    assert len(set(one)) == len(one)
    assert len({recipe.slug for recipe in recipes}) == len(recipes)
    changed = replace(recipes[-1], make=module.optimized("int4", "--set", "quantize-weights.bits=2"))
    assert module.identity(changed, tmp_path / "one") != one[-1]


def test_plans_get_as_many_bytes_as_those_they_are_held_against(script: Script, tmp_path: Path) -> None:
    tensors = {"matrix": np.zeros((100, 10), np.float32), "vector": np.zeros(10, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    module = script("_contenders")
    (plan,) = module.planned({"llama.cpp Q4_K_M, importance matrix": 40 + 625}, tmp_path)
    words = plan.make(Path("SOURCE"), Path("OUT"))

    assert words[words.index("--budget") + 1] == "bpw=5.0"


def test_one_tensor_in_two_shapes_counts_once(script: Script, tmp_path: Path) -> None:
    """As scales are that a product and a lookup share."""
    scales = ir.tensor(np.ones((2000, 2), np.float32))
    flat, spread = ir.Value(name="a", const_value=scales), ir.Value(name="b")
    spread.const_value = ir.tensor(np.ones((2000, 2, 1), np.float32))
    x = ir.Value(name="x", shape=ir.Shape([2000, 2]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes = [ir.node("Add", [x, flat]), ir.node("Identity", [spread])]
    outputs = [node.outputs[0] for node in nodes]
    graph = ir.Graph([x], outputs, nodes=nodes, initializers=[flat, spread], opset_imports={"": 23})
    path = tmp_path / "model.onnx"
    ir.save(ir.Model(graph, ir_version=11), path, external_data="model.onnx.data")
    contenders = script("_contenders")
    assert contenders.stored(contenders.FIXED[0], tmp_path) == 2 * 16000

    proto = onnx.load(path, load_external_data=False)
    one, other = proto.graph.initializer
    other.external_data.clear()
    other.external_data.extend(one.external_data)
    onnx.save(proto, path)
    assert contenders.stored(contenders.FIXED[0], tmp_path) == 16000


def test_tables_of_positions_are_no_weights(script: Script, tmp_path: Path) -> None:
    x = ir.Value(name="x", shape=ir.Shape([1, 2]), type=ir.TensorType(ir.DataType.FLOAT))
    sizes = {"weight": 6, "cos": 50, "sin": 50}
    values = [ir.Value(name=name, const_value=ir.tensor(np.ones(n, np.float32))) for name, n in sizes.items()]
    add = ir.node("Add", [x, values[0]])
    turn = ir.node("RotaryEmbedding", [add.outputs[0], *values[1:]])
    graph = ir.Graph([x], turn.outputs, nodes=[add, turn], initializers=values, opset_imports={"": 23})
    ir.save(ir.Model(graph, ir_version=11), tmp_path / "model.onnx")
    recipe = script("_contenders").FIXED[0]

    assert script("_contenders").stored(recipe, tmp_path) == 4 * 6


def test_what_is_not_rounded_counts_sixteen_bits(script: Script, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    tensors = {
        "l.qweight": np.zeros((2, 3), np.int32),
        "l.scales": np.zeros(3, np.float16),
        "embed.weight": np.zeros(5, np.float32),
    }
    save_file(tensors, tmp_path / "packed" / "model.safetensors")
    recipe = next(r for r in script("_contenders").PEERS if r.file == "fp32")

    assert script("_contenders").stored(recipe, tmp_path / "fp32") == 24 + 6 + 10


def test_ratios_are_of_the_same_tokens(script: Script) -> None:
    quality = script("quality")
    ours, theirs = quality._PAIRS[0]
    found = {ours: kept(script, 0.1, 0.2, 0.3, size=400), theirs: kept(script, 0.2, 0.4, 0.6, size=500)}

    table = quality.ratios("tiny-coder", found, 1000)

    row = table.row(f"{ours} / {theirs}")
    assert row == {
        "pair": f"{ours} / {theirs}", "kl_ratio": Estimate(0.5, 0.5, 0.5), "bits": 3.2, "their_bits": 4.0
    }  # fmt: skip


def page(script: Script, tmp_path: Path, ratio: float, bits: float) -> str:
    """The goals, where the first is measured of every model."""
    results, quality = script("_results"), script("quality")
    pair = " / ".join(quality._PAIRS[0])
    row = {"pair": pair, "kl_ratio": Estimate(ratio, ratio, ratio), "bits": bits, "their_bits": 4.25}
    tables = [
        results.Table(
            name="ratios", cell={"model": model}, key="pair", rows=[row], date="2026-11-29", machine="m",
            versions={}, command="c",
        )
        for model in script("_lms").LMS
    ]  # fmt: skip
    results.record(tmp_path / "quality.json", tables)
    module, figures = script("_compression_page"), script("_page")
    text: str = module.goals(figures.Figures(tmp_path, module.GOALS, figures.COMPRESSION))
    return text.splitlines()[2]


@pytest.mark.parametrize(
    ("ratio", "bits", "outcome"),
    [
        (0.15, 4.25, "aim met"),
        (0.4, 4.25, "met"),
        (0.5, 4.25, "missed"),
        (0.15, 4.5, "missed"),  # by more bits
    ],
)
def test_goals_say_what_came_of_them(
    script: Script, tmp_path: Path, ratio: float, bits: float, outcome: str
) -> None:
    line = page(script, tmp_path, ratio, bits)

    assert line.endswith(f"| {outcome} |")
    assert ("**" in line) == (outcome == "missed")
    assert f"at {bits:.2f} / 4.25 bits" in line


def test_goals_are_of_pairs_and_tasks_that_are_measured(script: Script) -> None:
    quality, contenders = script("quality"), script("_contenders")
    goals = json.loads(script("_compression_page").GOALS.read_text())
    pairs = {" / ".join(pair) for pair in quality._PAIRS}
    sizes = {recipe.name: 3_500_000 for recipe in contenders.PEERS}
    plans = contenders.planned(sizes, ROOT / "models" / "tiny_coder")
    names = {r.name for r in (*contenders.PEERS, *contenders.FIXED, *plans)}

    assert {goal["pair"] for goal in goals["damage"] if "pair" in goal} == pairs
    assert {name for pair in quality._PAIRS for name in pair} <= names
    assert {goal["peer"] for goal in goals["damage"] if "peer" in goal} <= names
    tasks = {task.name for task in script("cost").TASKS}
    elsewhere = {"Whisper, 64 wide, 2 + 2 layers, int8", "Whisper-small, int8"}  # no goals of that page
    assert {goal["at"][3] for goal in goals["single"] if goal["at"][0] == "cost"} == tasks - elsewhere


def test_peers_are_drawn_in_their_groups(script: Script) -> None:
    group_of = script("_compression_page").group_of

    assert group_of("llama.cpp Q4_0") == "llama.cpp"
    assert group_of("llama.cpp Q4_0, importance matrix") == "llama.cpp, importance matrix"
    assert group_of("graphopt int4") == "graphopt"
    assert group_of("torch bf16") is None


def test_a_chart_of_damage_says_all_that_it_shows(script: Script) -> None:
    scatter, charts = script("_scatter"), script("_charts")
    groups = [
        scatter.Group("a", {"p": (4.5, Estimate(0.02, 0.01, 0.03))}),
        scatter.Group("b", {"q": (5.0, Estimate(0.01, 0.009, 0.02))}),
    ]
    chart = scatter.Scatter("pareto", "Title", [scatter.Plane("one", groups)], "bits", "KL")
    light, dark = (scatter.svg(chart, theme) for theme in (charts.LIGHT, charts.DARK))

    assert "p: 4.5 and 0.02 [0.01, 0.03]; q: 5 and 0.01 [0.009, 0.02]" in light
    assert light == scatter.svg(chart, charts.LIGHT)
    assert re.sub(r"#[0-9a-f]{6}\b", "#", light) == re.sub(r"#[0-9a-f]{6}\b", "#", dark)


def test_no_figure_of_compression_is_typed() -> None:
    """But the confidence level and the years of papers."""
    found = set(typed((ROOT / "benchmarks" / "compression.md.jinja").read_text()))

    assert {figure for figure in found if not re.fullmatch(r"20[12]\d", figure)} <= {"95"}
