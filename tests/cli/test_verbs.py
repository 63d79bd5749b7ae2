"""run, validate, bench and inspect on a package of the embedded model."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from graphopt import Package, optimize
from graphopt.cli._main import run
from graphopt.ir import parse, save_model

BOTH = """
<ir_version: 10, opset_import: ["" : 23]>
net (float[batch, 4] x, float[batch, 4] z) => (float[batch, 4] y, float[batch, 4] twice)
{
  y = Relu(x)
  twice = Add(x, z)
}
"""


@pytest.fixture(scope="module")
def int4(tiny_coder_at: Callable[[str], Path]) -> Path:
    """tiny-coder at int4."""
    return tiny_coder_at("int4")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A package with two inputs and two outputs."""
    onnx.save(parser.parse_model(BOTH), tmp_path / "net.onnx")
    return optimize(tmp_path / "net.onnx", tmp_path / "net", recipe="lossless", dims=["batch=2"]).path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; gives what it printed on stdout."""

    def said(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert run([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return said


def test_the_package_is_a_genai_folder(int4: Path) -> None:
    package = Package.load(int4)

    assert package.manifest.closing_check == "passed"
    assert not package.manifest.lossless
    files = {p.name for p in int4.iterdir()}
    assert {"genai_config.json", "tokenizer.json", "model.onnx", "model.onnx.data"} < files


def test_the_cache_may_be_shared_by_past_and_present(int4: Path) -> None:
    config = json.loads((int4 / "genai_config.json").read_text())

    assert config["search"]["past_present_share_buffer"] is True


def test_run_continues_a_prompt(int4: Path, said: Callable[..., str]) -> None:
    text = said("run", int4, "def area(width, height):\n    return", "--max-new-tokens", "8")

    assert text.strip()
    assert text == said("run", int4, "def area(width, height):\n    return", "--max-new-tokens", "8")
    assert text.rstrip("\n") == Package.load(int4).generate(
        "def area(width, height):\n    return", max_new_tokens=8
    ).rstrip("\n")


def test_run_reads_the_prompt_from_stdin(
    int4: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = "import os\nimport "
    monkeypatch.setattr("sys.stdin", io.StringIO(prompt))

    assert said("run", int4, "-", "--max-new-tokens", "4") == said(
        "run", int4, prompt, "--max-new-tokens", "4"
    )


def test_run_draws_with_a_seed(int4: Path, said: Callable[..., str]) -> None:
    def draw(seed: int) -> str:
        return said(
            "run", int4, "class ", "--max-new-tokens", "24", "--temperature", "1", "--seed", str(seed)
        )

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(1, 5)}) > 1


def test_run_with_drafts_says_the_same(int4: Path, said: Callable[..., str]) -> None:
    prompt = "def area(width, height):\n    return"

    assert said("run", int4, prompt, "--max-new-tokens", "8", "--speculate") == said(
        "run", int4, prompt, "--max-new-tokens", "8"
    )


def test_run_answers_several_prompts(int4: Path, tmp_path: Path, said: Callable[..., str]) -> None:
    options = ("--max-new-tokens", "6", "--stop", "\n", "--repetition-penalty", "1.2", "--seed", "3")
    text = said("run", int4, "x = 1", "def f(", *options, "--json", tmp_path / "out.json", "--logprobs", "1")
    found = json.loads((tmp_path / "out.json").read_text())

    assert text == "".join(f"==> {each['prompt']} <==\n{each['text']}\n" for each in found)
    assert [each["prompt"] for each in found] == ["x = 1", "def f("]
    assert all("\n" not in each["text"] for each in found)
    assert all(len(each["logprobs"]) == len(each["tokens"]) for each in found)
    alone = json.loads(said("run", int4, "def f(", *options, "--json", "-"))
    assert [alone[0]["text"], alone[0]["logprobs"]] == [found[1]["text"], None]


def test_run_answers_a_chat(int4: Path, tmp_path: Path, said: Callable[..., str]) -> None:
    folder = Path(shutil.copytree(int4, tmp_path / "chat"))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}# {{ m.content }}\n{% endfor %}")
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    (tmp_path / "chat.json").write_text(json.dumps(messages))
    plain = said("run", folder, "# a\n# b\n", "--max-new-tokens", "4")

    assert said("run", folder, "--messages", tmp_path / "chat.json", "--max-new-tokens", "4") == plain
    assert said("run", folder, "b", "--system", "a", "--max-new-tokens", "4") == plain


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("{}", [], "is not a list of messages"),
        ("[", [], "is not JSON"),
        ("[]", [], "has no messages"),
        ('[{"role": 1}]', [], "has no role"),
        ("[]", ["x"], "takes the place of PROMPT"),
    ],
)
def test_messages_that_are_none(
    int4: Path,
    tmp_path: Path,
    content: str,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "chat.json").write_text(content)

    assert run(["run", str(int4), *options, "--messages", str(tmp_path / "chat.json")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("x = 1\n" * 600, [], "the model's context is 512"),
        ("", [], "the prompt is empty"),
        ("hello", ["--chat"], "no chat template"),
        ("hello", ["--speculate", "--chat"], "no chat template"),
        ("", ["--speculate"], "the prompt is empty"),
        ("hello", ["--logprobs", "1"], "--logprobs needs --json"),
        ("x = 1\n" * 600, ["--speculate"], "the model's context is 512"),
    ],
)
def test_prompts_that_cannot_be_continued(
    int4: Path, prompt: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(int4), prompt, *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_run_on_arrays(net: Path, tmp_path: Path, said: Callable[..., str]) -> None:
    x = np.array([[1, -1, 2, -2]], np.float32)
    np.savez(tmp_path / "in.npz", x=x, z=x)
    text = said("run", net, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")

    assert text.splitlines() == ["y  float32[1, 4]", "twice  float32[1, 4]"]
    with np.load(tmp_path / "out.npz") as found:
        assert found["y"].tolist() == [[1, 0, 2, 0]]
        assert found["twice"].tolist() == [[2, -2, 4, -4]]


def test_run_on_text_and_maps(tmp_path: Path, said: Callable[..., str]) -> None:
    values = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [])
    maps = onnx.helper.make_map_type_proto(onnx.TensorProto.STRING, values)
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 13, "ai.onnx.ml" : 2]>
        net (string[batch, 1] x) => (string[batch, 1] y, float[batch, 1] scores)
        {
          y = ai.onnx.ml.LabelEncoder<keys_strings=["a"], values_strings=["one"], default_string="no">(x)
          z = ai.onnx.ml.LabelEncoder<keys_strings = ["a"], values_floats = [1.0], default_float = 0.0>(x)
          scores = ai.onnx.ml.ZipMap<classlabels_strings = ["score"]>(z)
        }
    """)
    model.graph.output[1].type.CopyFrom(onnx.helper.make_sequence_type_proto(maps))
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "in.npz", x=np.array([["a"], ["ä"]]))
    inputs = ["--inputs", tmp_path / "in.npz"]
    said("optimize", tmp_path / "net.onnx", "-o", tmp_path / "net", "--recipe", "lossless", *inputs)
    said("run", tmp_path / "net", *inputs, "--outputs", tmp_path / "out.npz")

    report = Package.load(tmp_path / "net").report()
    assert report.closing.verdict == "passed"
    assert [edit.verdict for step in report.passes for edit in step.edits] == ["proven"]
    with np.load(tmp_path / "out.npz") as found:
        assert found["y"].tolist() == [["one"], ["no"]]
        assert found["scores[0].keys"].tolist() == ["score"]
        assert [found[f"scores[{row}].values"].item() for row in (0, 1)] == [1, 0]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"x": np.zeros((1, 4), np.float32)}, "an input 'z', which is not given"),
        ({name: np.zeros((1, 4), np.float32) for name in "xza"}, "no input 'a'"),
        ({name: np.zeros((1, 5), np.float32) for name in "xz"}, "cannot run on x float32[1, 5]"),
        ({name: np.zeros((1, 4)) for name in "xz"}, "cannot run on x float64[1, 4]"),
    ],
)
def test_run_on_arrays_that_do_not_fit(
    net: Path,
    tmp_path: Path,
    feeds: dict[str, np.ndarray],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez(tmp_path / "in.npz", **feeds)  # type: ignore[arg-type]

    assert (
        run(["run", str(net), "--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "o.npz")])
        == 2
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o.npz").exists()


def test_a_package_without_text_does_not_generate(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(net), "hello"]) == 2
    assert "--inputs FILE.npz" in capsys.readouterr().err


def test_validate_prints_and_writes_what_is_left(
    int4: Path, tmp_path: Path, said: Callable[..., str], tiny_coder: Path
) -> None:
    text = said(
        "validate", int4, "--reference", tiny_coder, "--tokens", "1024", "--json", tmp_path / "v.json"
    )
    found = json.loads((tmp_path / "v.json").read_text())
    result = found["result"]

    assert found["kind"] == "language"
    assert result["sequences"] == 4
    assert 0.001 < result["kl_mean"]["value"] < 0.2
    assert result["kl_mean"]["low"] < result["kl_mean"]["value"] < result["kl_mean"]["high"]
    assert result["kl_mean"]["value"] < result["kl_p99"]["value"]
    assert 0.7 < result["top1_agreement"]["value"] < 1
    assert result["reference_perplexity"]["value"] < 60
    for label in ("perplexity, package", "perplexity, reference", "mean KL", "99th", "top-1 agreement"):
        assert label in text


def test_a_package_beside_itself_has_lost_nothing(
    int4: Path, tmp_path: Path, said: Callable[..., str]
) -> None:
    said("validate", int4, "--reference", int4, "--tokens", "512", "--json", tmp_path / "v.json", "-q")
    result = json.loads((tmp_path / "v.json").read_text())["result"]

    assert result["kl_mean"]["value"] == pytest.approx(0, abs=1e-9)
    assert result["top1_agreement"]["value"] == 1


def test_validate_warns_that_the_built_in_text_is_python(
    int4: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", str(int4), "--reference", str(int4), "--tokens", "64"]) == 0
    assert "Python source" in capsys.readouterr().err
    (tmp_path / "text.txt").write_text("def f(x):\n    return x\n" * 20)
    own = ["--data", str(tmp_path / "text.txt")]
    assert run(["validate", str(int4), "--reference", str(int4), "--tokens", "64", *own]) == 0
    assert "Python source" not in capsys.readouterr().err


def test_validate_other_models_by_cosine(net: Path, tmp_path: Path, said: Callable[..., str]) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((1, 4), np.float32), z=np.ones((1, 4), np.float32))
    source = net.parent / "net.onnx"
    text = said(
        "validate", net, "--reference", source, "--data", tmp_path / "in.npz", "--json", tmp_path / "v.json"
    )

    assert "y, lowest cosine similarity" in text
    assert json.loads((tmp_path / "v.json").read_text())["result"]["cosine_min"] == pytest.approx(
        {"y": 1.0, "twice": 1.0}
    )


def test_validate_an_encoder_on_text(
    encoder: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, package = encoder
    written = ["--json", str(tmp_path / "v.json")]
    assert run(["validate", str(package), "--reference", str(source), *written]) == 0
    said = capsys.readouterr()
    found = json.loads((tmp_path / "v.json").read_text())

    assert found["kind"] == "encoder"
    assert found["result"]["calls"] == 64
    assert found["result"]["cosine_min"]["last_hidden_state"] == pytest.approx(1, abs=1e-6)
    assert "Python source" in said.err


def test_bench_an_encoder_on_legal_inputs(encoder: tuple[Path, Path], said: Callable[..., str]) -> None:
    assert "first call" in said("bench", encoder[1], "--rounds", "1", "--new-tokens", "2")


def test_bench_measures_two_packages_in_turns(int4: Path, tmp_path: Path, said: Callable[..., str]) -> None:
    shutil.copytree(int4, tmp_path / "same")
    text = said(
        "bench",
        int4,
        *("--against", tmp_path / "same", "--rounds", "1", "--prompt-tokens", "8", "--new-tokens", "4"),
        *("--price", "0.5", "--json", tmp_path / "b.json"),
    )
    found = json.loads((tmp_path / "b.json").read_text())

    for key in ("load_time", "ttft", "tpot", "tpot_p90", "decode_tokens_per_second", "peak_memory"):
        assert found["speed"]["metrics"][key]["value"] > 0
        assert found["other"]["metrics"][key]["value"] > 0
    speedup = found["throughput_speedup"]
    assert (speedup["low"], speedup["high"]) == ("-Infinity", "Infinity")
    assert all(found["price"][way] > 0 for way in ("per_million_out", "per_million_in"))
    for label in (
        "load",
        "time to first token",
        "prefill",
        "decode",
        "p50",
        "p90",
        "peak memory",
        "times as fast",
        "one round does not tell",
        "control",
        "$0.5",
    ):
        assert label in text


def test_bench_of_a_model_without_text_needs_inputs_or_sizes(
    net: Path, tmp_path: Path, said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((1, 4), np.float32), z=np.ones((1, 4), np.float32))
    text = said("bench", net, "--inputs", tmp_path / "in.npz", "--rounds", "1", "--new-tokens", "3")
    assert "first call" in text
    assert "prefill" not in text

    assert "first call" in said("bench", net, "--rounds", "1")
    unknown = Path(shutil.copytree(net, tmp_path / "unknown"))
    manifest = json.loads((unknown / "graphopt.json").read_text())
    assert manifest.pop("sizes")
    (unknown / "graphopt.json").write_text(json.dumps(manifest))
    assert run(["bench", str(unknown), "--rounds", "1"]) == 2
    assert "--inputs" in capsys.readouterr().err


def test_bench_with_a_prompt_longer_than_the_context(int4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(int4), "--prompt-tokens", "511"]) == 2
    assert "context of 512" in capsys.readouterr().err


def test_inspect_counts_operators_and_collapses_the_cache(int4: Path, said: Callable[..., str]) -> None:
    text = said("inspect", int4)

    assert "com.microsoft::MatMulNBits" in text
    assert "past_key_values.{0..5}.key" in text
    data = json.loads(said("inspect", int4, "--json", "-"))["model.onnx"]
    assert data["operators"]["com.microsoft::GroupQueryAttention"] == 6
    assert data["weight_bytes"] < 6e6


def test_inspect_names_what_moves_activations(int4: Path, said: Callable[..., str], tmp_path: Path) -> None:
    moves = json.loads(said("inspect", int4, "--json", "-"))["model.onnx"]["moves"]
    assert list(moves["of_activations"]) == ["Reshape"]  # of the rows of the embedding, once a call
    assert sum(moves["of_masks_lengths_positions"].values()) > 5

    save_model(
        parse(
            """<ir_version: 10, opset_import: ["" : 23]>
            g (float[N,4] x, int64[2] shape) => (float[A,B] y)
            { turned = Transpose(x) half = Cast<to = 6>(shape)
              whole = Cast<to = 7>(half) y = Reshape(turned, whole) }
            """
        ),
        tmp_path / "moving.onnx",
    )
    text = " ".join(said("inspect", tmp_path / "moving.onnx").split())
    assert "of activations: 1 Transpose" in text
    assert "1 Reshape" in text
    assert "of masks, lengths and positions: 2 Cast" in text


def test_lists(said: Callable[..., str]) -> None:
    assert "tiny-coder" in said("models", "list")
    assert "causal-lm" in said("models", "list")
    assert "cpu" in said("targets", "list")
    assert "lower-attention" in said("targets", "show", "cpu")
    listed = said("passes", "list")
    assert "fold-constants" in listed
    assert "lossless" in listed
    assert "max-growth" in said("passes", "show", "fold-constants")
    assert "[[pass]]" in said("passes", "show", "int4")
    assert "onnxruntime" in said("targets", "doctor")
