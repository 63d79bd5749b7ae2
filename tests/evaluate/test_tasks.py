"""Tasks: likelihoods are those of the logits, and without lm-eval it is said what to install.

What runs lm-eval itself is for a venv that has it: `pip install 'graphopt[tasks]'`, and this file again.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.special

from graphopt import BadInput, EnvironmentProblem
from graphopt.evaluate import measure_tasks, session_logits
from graphopt.evaluate._sides import PackageSide, SourceSide, side_of
from graphopt.evaluate._task_model import TaskModel
from graphopt.metrics import Documents, estimate
from graphopt.package import RunnablePackage
from graphopt.runtime import Tokenizer
from tests.evaluate._head_models import damaged

TEXT = "def add(a, b):\n    return a + b\n"
with_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="needs the extra `tasks`"
)


@pytest.fixture(scope="module")
def package(tiny_coder_at: Callable[[str], Path]) -> RunnablePackage:
    return RunnablePackage.load(tiny_coder_at("lossless"))


@pytest.fixture(scope="module")
def model(package: RunnablePackage) -> TaskModel:
    return TaskModel(PackageSide(package), package.path)


def log_probabilities(package: RunnablePackage, tokens: list[int]) -> np.ndarray:
    """float64[tokens - 1, vocabulary], of each token after the first."""
    logits = session_logits(package.session())(np.asarray(tokens[:-1], np.int64))
    return np.asarray(scipy.special.log_softmax(logits.astype(np.float64), axis=-1))


def test_a_continuation_is_as_likely_as_its_tokens(package: RunnablePackage, model: TaskModel) -> None:
    context, text = "def add(a, b):\n    return", " a + b"
    tokenizer = Tokenizer(package.path)
    before, whole = tokenizer.plain(context), tokenizer.plain(context + text)
    rows = log_probabilities(package, whole)[len(before) - 1 :]
    expected = sum(row[token] for row, token in zip(rows, whole[len(before) :], strict=True))

    score, likely = model.continuation(context, text)
    assert score == pytest.approx(expected, rel=1e-6)
    assert likely == all(
        int(row.argmax()) == token for row, token in zip(rows, whole[len(before) :], strict=True)
    )
    assert model.continuation(context + " ", "a + b") == (score, likely)  # the space is of the continuation


def test_the_likeliest_token_is_said_to_be(package: RunnablePackage, model: TaskModel) -> None:
    tokenizer = Tokenizer(package.path)
    best = int(log_probabilities(package, [*tokenizer.plain("import numpy as"), 0])[-1].argmax())
    score, likely = model.continuation("import numpy as", tokenizer.word(best))
    assert likely
    assert score > np.log(1 / 4096)
    assert model.continuation("import numpy as", " class")[1] is False


def test_an_empty_context_is_the_end_of_another_text(package: RunnablePackage, model: TaskModel) -> None:
    tokens = [0, *Tokenizer(package.path).plain(TEXT)]  # 0 is tiny-coder's end of a text
    rows = log_probabilities(package, tokens)
    expected = float(rows[np.arange(len(rows)), tokens[1:]].sum())
    assert model.continuation("", TEXT)[0] == pytest.approx(expected, rel=1e-6)
    assert model.whole(TEXT) == pytest.approx(expected, rel=1e-6)
    assert model.whole("") == 0


@pytest.mark.parametrize("window", [3, 4, 5, 100])
def test_a_long_text_is_read_in_windows(package: RunnablePackage, window: int) -> None:
    """As lm-eval does: each token once, the last window with as much context as there can be."""
    model = TaskModel(PackageSide(package), package.path)
    model._context = window
    tokens = Tokenizer(package.path).plain(TEXT)
    given = [0, *tokens]
    expected = 0.0
    for start in range(0, len(tokens), window):
        end = min(start + window, len(tokens))
        piece = given[max(0, end - window) : end + 1]
        rows = log_probabilities(package, piece)[-(end - start) :]
        expected += float(rows[np.arange(end - start), tokens[start:end]].sum())
    assert model.whole(TEXT) == pytest.approx(expected, rel=1e-6)


def test_a_context_that_is_too_long_loses_its_beginning(package: RunnablePackage) -> None:
    model = TaskModel(PackageSide(package), package.path)
    model._context = 6
    tokenizer = Tokenizer(package.path)
    whole = tokenizer.plain(TEXT.rstrip() + " +")
    rows = log_probabilities(package, whole[-7:])
    assert model.continuation(TEXT.rstrip(), " +")[0] == pytest.approx(float(rows[-1, whole[-1]]), rel=1e-6)


def test_answers_end_at_a_stop_string_and_are_those_of_the_source(
    package: RunnablePackage, model: TaskModel, tiny_coder: Path
) -> None:
    prompt = "def add(a, b):\n    return"
    answer = model.answer(prompt, stop=["\n"], max_new_tokens=8)
    assert answer == package.generate(prompt, max_new_tokens=8).split("\n")[0]
    source = side_of(tiny_coder, package, trust_remote_code=False)
    assert isinstance(source, SourceSide)
    assert TaskModel(source, package.path).answer(prompt, stop=["\n"], max_new_tokens=8) == answer


def test_logits_that_are_not_finite_make_nothing_likely(package: RunnablePackage) -> None:
    side = PackageSide(package)
    model = TaskModel(side, package.path)
    model._logits = lambda tokens: side.logits(tokens) * np.float32(np.nan)
    assert model.continuation("a", " = 1") == (-np.inf, False)


def test_without_lm_eval_it_is_said_what_to_install(
    package: RunnablePackage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(EnvironmentProblem, match="task metrics need lm-eval") as refusal:
        measure(package, package, tmp_path)
    assert refusal.value.hint == "pip install 'graphopt[tasks]'"
    assert refusal.value.exit_code == 4


def measure(package: RunnablePackage, other: RunnablePackage, tasks: Path) -> dict[str, Documents]:
    found = measure_tasks(
        package, other.path, other, tasks=tasks, trust_remote_code=False, say=lambda text: None
    )
    assert found.data_digest.startswith("sha256:")
    samples = {sample.title: sample.evidence for sample in found.samples}
    assert all(isinstance(evidence, Documents) for evidence in samples.values())
    return {title: evidence for title, evidence in samples.items() if isinstance(evidence, Documents)}


@pytest.fixture
def tasks(tmp_path: Path, model: TaskModel) -> Path:
    """Six questions of two choices, half of them answered right, and two texts to be gone on with."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "choices.yaml").write_text(
        """
task: choices
dataset_path: json
dataset_kwargs: {data_files: {test: choices.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
    )
    (folder / "next.yaml").write_text(
        """
task: next
dataset_path: json
dataset_kwargs: {data_files: {test: next.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{prompt}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
    )
    questions = []
    for number in range(6):
        question, choices = f"def f{number}(a):\n    return", [" a", " class"]
        scores = [model.continuation(question, choice)[0] for choice in choices]
        right = int(np.argmax(scores))
        label = right if number < 3 else 1 - right
        questions.append({"question": question, "choices": choices, "label": label})
    prompts = ["def add(a, b):\n    return", "import numpy as"]
    answers = [model.answer(prompts[0], stop=["\n"], max_new_tokens=8), "something else"]
    write(folder / "choices.jsonl", questions)
    write(folder / "next.jsonl", [{"prompt": p, "answer": a} for p, a in zip(prompts, answers, strict=True)])
    return folder


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@with_lm_eval
@pytest.mark.filterwarnings("default")
def test_lm_eval_counts_what_is_right(package: RunnablePackage, tasks: Path) -> None:
    found = measure(package, package, tasks)
    assert [float(v[0]) for v in found["task_accuracy (task choices)"].values] == [1, 1, 1, 0, 0, 0]
    assert [float(v[0]) for v in found["task_accuracy (task next)"].values] == [1, 0]
    same = estimate(found["task_accuracy (task choices)"], relative=True)
    assert (same.value, same.low, same.high) == (1, 1, 1)
    assert sum(map(float, np.concatenate(found["flips_lost (task choices)"].values))) == 0
    alone = measure(package, package, tasks / "next.yaml")
    assert {title.split("(")[1] for title in alone} == {"task next)"}


@with_lm_eval
@pytest.mark.filterwarnings("default")
def test_lm_eval_sees_a_damaged_package(package: RunnablePackage, tasks: Path, tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(package.path / "model.onnx", load_external_data=False).graph
    norm = next(t.name for t in reversed(graph.initializer) if "norm" in t.name and len(t.dims) == 1)
    bad = damaged(package.path, tmp_path / "bad", norm, lambda w: -w)
    found = measure(bad, package, tasks)
    accuracy = found["task_accuracy (task choices)"]
    assert accuracy.baseline is not None
    assert [float(v[0]) for v in accuracy.baseline] == [1, 1, 1, 0, 0, 0]
    lost = np.concatenate(found["flips_lost (task choices)"].values)
    won = np.concatenate(found["flips_won (task choices)"].values)
    assert lost.sum() + won.sum() > 0
    assert float(found["task_accuracy (task next)"].values[0][0]) == 0


@with_lm_eval
@pytest.mark.filterwarnings("default")
def test_what_lm_eval_cannot_run_is_said(package: RunnablePackage, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no task"):
        measure(package, package, tmp_path / "empty")
    (tasks / "choices.jsonl").unlink()
    with pytest.raises(BadInput, match=r"lm-eval cannot run .*choices.yaml"):
        measure(package, package, tasks / "choices.yaml")
