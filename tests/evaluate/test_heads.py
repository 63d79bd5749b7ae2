"""Labels and spans of models with heads: equal packages agree wholly, planted changes are seen and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt import BadInput, export_package
from graphopt.evaluate import head_metrics
from graphopt.evaluate._spans import best_span
from graphopt.metrics import Documents
from graphopt.package import RunnablePackage
from tests.evaluate._head_models import damaged, measured, onnx_package, sample_of, values

Array = np.ndarray[Any, Any]
Made = Callable[[str], RunnablePackage]

CLASSIFIER = """
<ir_version: 10, opset_import: ["" : 21]>
classifier (float[batch, 3] features) => (float[batch, 3] scores)
<float[3] bias = {0, 0, 0}>
{
  scores = Add (features, bias)
}
"""
NAMES = {"label2id": {"bad": 0, "good": 1}, "id2label": {0: "bad", 1: "good"}}


@pytest.fixture(scope="session")
def made(cached: Callable[[str, Callable[[Path], None]], Path], tiny_model: Callable[..., Path]) -> Made:
    """`made(kind)` is the package of a tiny model as the exporter leaves it. Never write to it."""
    options: dict[str, dict[str, Any]] = {"vit": {"num_labels": 7}, "bert-sequence": NAMES}

    def package(kind: str) -> RunnablePackage:
        source = tiny_model(kind, **options.get(kind, {}))
        folder = cached(f"heads-{kind}", lambda to: void(export_package(source, to / "package")))
        return RunnablePackage.load(folder / "package")

    return package


def void(_: object) -> None: ...


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


TEXTS = [{"text": f"def f{i}(a):\n    return a + {i * i}"} for i in range(30)]


@pytest.mark.parametrize(
    ("kind", "metrics"),
    [
        ("bert-sequence", ("label_agreement",)),
        ("bert-token", ("label_agreement",)),
        ("bert-qa", ("span_agreement",)),
        ("vit", ("label_agreement", "top1_agreement", "top5_agreement")),
    ],
)
def test_a_package_agrees_with_itself(made: Made, kind: str, metrics: tuple[str, ...]) -> None:
    package = made(kind)
    assert head_metrics(package) == metrics
    found = measured(package, package, *metrics, baseline=package)
    assert values(found) == dict.fromkeys(metrics, 1.0)
    for sample in found.samples:
        assert isinstance(sample.evidence, Documents)
        assert sample.evidence.baseline is not None
        assert len(sample.evidence.values) == len(set(sample.evidence.names)) >= 64
    assert "random" in found.notes[0]
    assert (found.data, found.data_digest) == ("random legal inputs", "")


def test_a_package_agrees_with_its_source(made: Made, tiny_model: Callable[..., Path]) -> None:
    package, source = made("bert-sequence"), tiny_model("bert-sequence", **NAMES)
    assert values(measured(package, source, "label_agreement"))["label_agreement"] > 0.95


def shifted(bias: Array) -> Array:
    return bias + np.asarray([100] + [0] * (len(bias) - 1), bias.dtype)


@pytest.mark.parametrize(
    ("kind", "weight", "change", "metric"),
    [
        ("bert-sequence", "classifier.weight", lambda w: w[::-1].copy(), "label_agreement"),
        ("bert-sequence", "classifier.bias", lambda b: b * np.nan, "label_agreement"),
        ("bert-token", "classifier.weight", lambda w: w[::-1].copy(), "label_agreement"),
        ("bert-qa", "qa_outputs.weight", lambda w: w[::-1].copy(), "span_agreement"),
        ("vit", "classifier.bias", shifted, "top1_agreement"),
    ],
    ids=["permuted", "nan", "tokens permuted", "start is end", "bias shifted"],
)
def test_a_damaged_head_is_seen(
    made: Made, tmp_path: Path, kind: str, weight: str, change: Callable[[Array], Array], metric: str
) -> None:
    package = made(kind)
    bad = damaged(package.path, tmp_path / "bad", weight, change)
    found = measured(bad, package, metric, baseline=package)
    assert values(found)[metric] < 0.6
    evidence = sample_of(found.samples, metric).evidence
    assert isinstance(evidence, Documents)
    assert evidence.baseline is not None
    assert np.concatenate(evidence.baseline).min() == 1


def test_two_labels_that_change_places_leave_the_five_first(made: Made, tmp_path: Path) -> None:
    """The first label falls behind the second, and the five likeliest stay."""
    package = made("vit")
    pixels = np.random.default_rng(3).standard_normal((20, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "images.npz", pixel_values=pixels)
    bad = damaged(package.path, tmp_path / "bad", "classifier.bias", shifted)
    found = values(measured(bad, package, "top1_agreement", "top5_agreement", data=tmp_path / "images.npz"))
    assert found["top1_agreement"] < found["top5_agreement"]
    assert found["top5_agreement"] >= 0.8  # one of five is another, if the first label was not among them


def test_flips_are_counted_apart(tmp_path: Path) -> None:
    """Three of five labels are right; the other bias loses two of these and wins one."""
    whole = onnx_package(CLASSIFIER, tmp_path / "whole")
    features = np.asarray([[3, 0, 0], [1, 0.5, 0], [1, 0.2, 0], [1, 0.9, 0], [0, 0, 5]], np.float32)
    labels = np.asarray([0, 0, 0, 1, 1])
    np.savez(tmp_path / "data.npz", features=features, labels=labels)
    bad = damaged(whole.path, tmp_path / "bad", "bias", lambda b: np.asarray([0, 0.9, 0], np.float32))
    metrics = ("label_agreement", "label_accuracy", "flips_lost", "flips_won")
    found = measured(bad, whole, *metrics, baseline=whole, data=tmp_path / "data.npz")
    assert values(found) == pytest.approx(
        {
            "label_agreement": 2 / 5,
            "label_accuracy (labels)": 2 / 5,
            "flips_lost (labels)": 2 / 5,
            "flips_won (labels)": 1 / 5,
        }
    )
    accuracy = sample_of(found.samples, "label_accuracy", "labels").evidence
    assert isinstance(accuracy, Documents)
    assert accuracy.baseline is not None
    assert np.concatenate(accuracy.baseline).tolist() == [1, 1, 1, 0, 0]
    assert found.data_digest.startswith("sha256:")
    alone = measured(bad, whole, "label_accuracy", "flips_lost", data=tmp_path / "data.npz")
    reference, lost = (sample.evidence for sample in alone.samples)
    assert isinstance(reference, Documents)
    assert reference.baseline == accuracy.baseline  # the reference's own, where there is no other
    assert isinstance(lost, Documents)
    assert lost.baseline is None


def test_labels_of_texts_by_name_and_by_domain(made: Made, tmp_path: Path) -> None:
    package = made("bert-sequence")
    rows = [row | {"label": "good", "domain": ("even", "odd")[i % 2]} for i, row in enumerate(TEXTS)]
    data = lines(tmp_path / "texts.jsonl", *rows)
    bad = damaged(package.path, tmp_path / "bad", "classifier.bias", shifted)
    found = measured(bad, package, "label_agreement", "label_accuracy", data=data)
    got = values(found)
    assert got["label_accuracy (labels)"] == 0  # the shift makes every label "bad"
    shares = [got[f"label_agreement (domain {name})"] for name in ("even", "odd")]
    assert np.mean(shares) == pytest.approx(got["label_agreement"])
    assert len(sample_of(found.samples, "label_agreement").evidence.values) == 30  # type: ignore[union-attr, arg-type]


def test_an_example_that_is_there_twice_counts_once(made: Made, tmp_path: Path) -> None:
    package = made("bert-sequence")
    found = measured(
        package, package, "label_agreement", data=lines(tmp_path / "a.jsonl", *TEXTS[:3], TEXTS[0])
    )
    (sample,) = found.samples
    assert isinstance(sample.evidence, Documents)
    assert len(sample.evidence.values) == 3
    assert found.notes == ("1 examples are there twice and count once",)


def test_tags_are_those_of_the_first_token_of_a_word(made: Made, tmp_path: Path) -> None:
    package = made("bert-token")
    words = ["return", "extraordinarily_long_name", "x"]
    data = lines(tmp_path / "tags.jsonl", {"tokens": words, "tags": [0, 0, 0]})
    bad = damaged(package.path, tmp_path / "bad", "classifier.bias", shifted)
    found = measured(bad, package, "label_accuracy", "flips_lost", "flips_won", data=data)
    (accuracy, lost, won) = (s.evidence for s in found.samples)
    assert isinstance(accuracy, Documents)
    assert accuracy.values[0].tolist() == [1, 1, 1]  # a value for each word: the shift makes them all 0
    assert isinstance(lost, Documents)
    assert isinstance(won, Documents)
    assert lost.values[0].sum() == 0
    assert won.values[0].shape == (3,)


def test_answers_are_texts_of_the_context(made: Made, tmp_path: Path) -> None:
    """Whatever the model answers, its own answer is right, and another text is wrong."""
    from graphopt.evaluate._heads import _head
    from graphopt.runtime import Tokenizer

    package = made("bert-qa")
    question, context = "what is returned?", "def f(a):\n    return a + 1"
    framed = Tokenizer(package.path).frame(question, context)
    feeds = {
        "input_ids": framed.ids,
        "token_type_ids": framed.segments,
        "attention_mask": [1] * len(framed.ids),
    }
    results = package.run({name: np.asarray([ids], np.int64) for name, ids in feeds.items()})
    start, end = results["start_logits"][0], results["end_logits"][0]
    places = [i for i, part in enumerate(framed.parts) if part == 1]
    i, j = max(((i, j) for i in places for j in places if i <= j), key=lambda at: start[at[0]] + end[at[1]])
    answer = context[framed.characters[i][0] : framed.characters[j][1]]

    row = {"question": question, "context": context}
    data = lines(tmp_path / "qa.jsonl", row | {"answers": ["no", f" The {answer.upper()}."]})
    assert values(measured(package, package, "label_accuracy", data=data)) == {"label_accuracy (labels)": 1}
    data = lines(tmp_path / "wrong.jsonl", row | {"answers": {"text": ["nothing of it"]}})
    assert values(measured(package, package, "label_accuracy", data=data)) == {"label_accuracy (labels)": 0}
    head = _head(package)
    assert head is not None
    assert head.line == "question"


def test_any_of_several_labels_counts(tmp_path: Path) -> None:
    whole = onnx_package(CLASSIFIER, tmp_path / "whole")
    (whole.path / "config.json").write_text('{"problem_type": "multi_label_classification"}')
    features = np.asarray([[1, 1, -1], [-1, 1, -1], [-1, -1, -1]], np.float32)
    np.savez(tmp_path / "data.npz", features=features, labels=np.asarray([[1, 1, 0], [0, 1, 0], [1, 0, 0]]))
    bad = damaged(whole.path, tmp_path / "bad", "bias", lambda b: np.asarray([0, 0, 2], np.float32))
    data = tmp_path / "data.npz"
    assert values(measured(whole, whole, "label_agreement", "label_accuracy", data=data)) == pytest.approx(
        {"label_agreement": 1, "label_accuracy (labels)": 2 / 3}
    )
    assert values(measured(bad, whole, "label_agreement", data=data)) == {"label_agreement": 0}


def test_a_source_graph_whose_batch_is_a_number(tmp_path: Path) -> None:
    whole = onnx_package(CLASSIFIER.replace("batch", "2"), tmp_path / "whole")
    features = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", features=features)
    found = measured(whole, tmp_path / "whole" / "model.onnx", "label_agreement", data=tmp_path / "data.npz")
    (sample,) = found.samples
    assert isinstance(sample.evidence, Documents)
    assert [v.tolist() for v in sample.evidence.values] == [[1.0]] * 5


def test_what_cannot_be_measured_is_said(made: Made, tmp_path: Path) -> None:
    package = made("bert-sequence")
    with pytest.raises(BadInput, match="no span_agreement") as refusal:
        measured(package, package, "span_agreement")
    assert refusal.value.hint == "Its head has label_agreement."
    with pytest.raises(BadInput, match="flips_lost needs labels"):
        measured(package, package, "flips_lost")
    with pytest.raises(BadInput, match="label_accuracy needs labels"):
        measured(package, package, "label_accuracy", data=lines(tmp_path / "a.jsonl", *TEXTS))
    with pytest.raises(BadInput, match="the model has no label 'goood'") as refusal:
        measured(
            package,
            package,
            "label_accuracy",
            data=lines(tmp_path / "b.jsonl", {"text": "a", "label": "goood"}),
        )
    assert refusal.value.hint == "Did you mean 'good'?"
    with pytest.raises(BadInput, match=r"c.jsonl:1: txt"):
        measured(package, package, "label_agreement", data=lines(tmp_path / "c.jsonl", {"txt": "a"}))
    rows = ({"text": "a", "label": 0}, {"text": "b"})
    with pytest.raises(BadInput, match="some lines have labels"):
        measured(package, package, "label_agreement", data=lines(tmp_path / "d.jsonl", *rows))
    with pytest.raises(BadInput, match="has no 'question'"):
        measured(
            made("bert-qa"),
            made("bert-qa").path,
            "span_agreement",
            data=lines(tmp_path / "e.jsonl", TEXTS[0]),
        )
    np.savez(tmp_path / "f.npz", input_ids=np.ones((2, 3), np.int64))
    with pytest.raises(BadInput, match="no array 'attention_mask'"):
        measured(package, package, "label_agreement", data=tmp_path / "f.npz")


def test_another_head_is_not_compared(tmp_path: Path) -> None:
    three = onnx_package(CLASSIFIER, tmp_path / "three")
    model = CLASSIFIER.replace("scores)", "scores)").replace("[batch, 3] scores", "[batch, 4] scores")
    model = model.replace(
        "scores = Add (features, bias)", "sum = Add (features, bias)\n scores = Concat <axis = 1> (sum, one)"
    )
    model = model.replace("<float[3] bias", "<float[1, 1] one = {1}, float[3] bias").replace(
        "[batch, ", "[1, "
    )
    four = onnx_package(model, tmp_path / "four")
    np.savez(tmp_path / "data.npz", features=np.ones((2, 3), np.float32))
    with pytest.raises(BadInput, match=r"labels of the package are \[4\], of the reference \[3\]"):
        measured(four, three, "label_agreement", data=tmp_path / "data.npz")


def test_a_model_without_a_head(encoder: tuple[Path, Path]) -> None:
    package = RunnablePackage.load(encoder[1])
    assert head_metrics(package) == ()
    with pytest.raises(BadInput, match="no head whose answers are known"):
        measured(package, package, "label_agreement")


def test_an_output_that_is_not_there_fails(made: Made, tmp_path: Path) -> None:
    import onnx

    from graphopt import CheckFailed

    package = made("bert-sequence")
    shutil.copytree(package.path, tmp_path / "renamed")
    model = onnx.load(tmp_path / "renamed" / "model.onnx")
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    model.graph.output[0].name = "scores"
    onnx.save(model, tmp_path / "renamed" / "model.onnx")
    with pytest.raises(CheckFailed, match="gives no logits"):
        measured(RunnablePackage.load(tmp_path / "renamed"), package, "label_agreement")


def test_floats_of_a_source_graph_are_drawn(tmp_path: Path) -> None:
    whole = onnx_package(CLASSIFIER, tmp_path / "whole")
    found = measured(whole, tmp_path / "whole" / "model.onnx", "label_agreement")
    assert values(found) == {"label_agreement": 1.0}
    assert len(sample_of(found.samples, "label_agreement").evidence.values) == 64  # type: ignore[union-attr, arg-type]
    assert "random" in found.notes[0]


@pytest.mark.parametrize(
    ("kind", "weight", "metric"),
    [
        ("bert-qa", "qa_outputs.weight", "span_agreement"),
        ("bert-token", "classifier.weight", "label_agreement"),
    ],
)
def test_a_source_graph_that_takes_tokens(
    made: Made, tmp_path: Path, kind: str, weight: str, metric: str
) -> None:
    source = made(kind).path / "model.onnx"
    package = export_package(source, tmp_path / "package")
    with pytest.raises(BadInput, match=r"legal inputs of .* are unknown"):
        measured(package, source, metric)
    ids = np.random.default_rng(0).integers(5, 4000, (20, 12))
    mask = np.ones_like(ids)
    mask[:, 9:] = 0
    data = tmp_path / "tokens.npz"
    np.savez(data, input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))
    assert values(measured(package, source, metric, data=data)) == {metric: 1.0}
    bad = damaged(package.path, tmp_path / "bad", weight, lambda w: w[::-1].copy())
    found = measured(bad, source, metric, data=data)
    assert values(found)[metric] < 0.7
    (sample,) = found.samples
    assert isinstance(sample.evidence, Documents)
    assert {len(v) for v in sample.evidence.values} == {1 if kind == "bert-qa" else 9}  # padding is no token


def test_labels_of_answers_and_of_tokens_as_numbers(made: Made, tmp_path: Path) -> None:
    """What the model answers is right, and all else is wrong; a token without a label is left out."""
    ids = np.random.default_rng(1).integers(5, 4000, (6, 8))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    package = made("bert-token")
    tags = package.run(feeds)["logits"].argmax(-1)
    tags[:, 4:] = -100
    tags[:, 3] = 1 - tags[:, 3]
    np.savez(tmp_path / "tags.npz", labels=tags, **feeds)
    found = measured(package, package, "label_accuracy", data=tmp_path / "tags.npz")
    (sample,) = found.samples
    assert isinstance(sample.evidence, Documents)
    assert [v.tolist() for v in sample.evidence.values] == [[1, 1, 1, 0]] * 6

    package = made("bert-qa")
    results = package.run(feeds)
    spans = [
        best_span(start, end, np.ones(8, np.bool_))
        for start, end in zip(results["start_logits"], results["end_logits"], strict=True)
    ]
    labels = np.asarray(spans)
    labels[3:] = (0, 0) if spans[3] != (0, 0) else (1, 1)
    np.savez(tmp_path / "spans.npz", labels=labels, **feeds)
    found = measured(package, package, "label_accuracy", data=tmp_path / "spans.npz")
    (sample,) = found.samples
    assert isinstance(sample.evidence, Documents)
    assert [float(v[0]) for v in sample.evidence.values][:4] == [1, 1, 1, 0]
