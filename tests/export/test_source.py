"""What a source may be called, and what is said when it is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.export import FOLDER, GGUF, ONNX, Source, export_parts, resolve_source


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "embedded"
    folder.mkdir()
    monkeypatch.setattr("graphopt.plugins.registry.embedded_models", lambda: {"tiny-coder": folder})
    return folder


def test_a_folder_with_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_source(tmp_path) == Source(str(tmp_path), tmp_path, FOLDER)


def test_an_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    assert resolve_source(str(tmp_path / "net.onnx")).kind == ONNX


def test_a_kind_that_nothing_exports_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="of the kind 'tape'"):
        export_parts(Source("reel", tmp_path / "reel.tape", "tape"))


def test_an_embedded_model(embedded: Path) -> None:
    assert resolve_source("tiny-coder") == Source("tiny-coder", embedded, FOLDER)


def test_a_path_comes_before_an_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-coder").mkdir()
    (tmp_path / "tiny-coder" / "config.json").write_text("{}")
    assert resolve_source("tiny-coder").path == Path("tiny-coder")


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a/b/c", "net.onnx", "~/nowhere", "folder/"]
)
def test_a_missing_path_is_not_looked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.export._source._download", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(BadInput, match="does not exist"):
        resolve_source(name)


def test_a_misspelt_embedded_model_gets_the_nearest_name() -> None:
    with pytest.raises(BadInput, match="Did you mean the embedded model 'tiny-coder'"):
        resolve_source("tiny-codr")


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no config\.json"):
        resolve_source(tmp_path)
    (tmp_path / "net.onnx").touch()
    with pytest.raises(BadInput, match=r"name one, .*net\.onnx"):
        resolve_source(tmp_path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        BadInput, match=r"neither a folder nor an \.onnx or \.gguf file(.|\n)*Name the folder"
    ):
        resolve_source(tmp_path / "model.safetensors")


def test_a_file_of_llama_cpp(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert resolve_source(tmp_path / "model.gguf").kind == GGUF


def test_a_file_that_was_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    with pytest.raises(BadInput, match=r"net\.onnx is a Git LFS pointer"):
        resolve_source(tmp_path / "net.onnx")


def test_what_a_folder_without_a_configuration_holds_is_named(tmp_path: Path) -> None:
    (tmp_path / "0_Transformer").mkdir()
    (tmp_path / "0_Transformer" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadInput, match=r"Name that one: .*0_Transformer"):
        resolve_source(tmp_path)


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentProblem, match="Hub cannot be reached") as caught:
        resolve_source("someone/some-model")
    assert caught.value.exit_code == 4


def hub(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", answer)


def test_a_hub_id_is_downloaded_without_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        assert name == "someone/some-model"
        asked.append(allow_patterns)
        return str(tmp_path)

    hub(monkeypatch, download)
    assert resolve_source("someone/some-model") == Source("someone/some-model", tmp_path, FOLDER)
    resolve_source("someone/some-model", trust_remote_code=True)
    assert ["*.py" in patterns for patterns in asked] == [False, True]
    assert not any(pattern.endswith((".bin", ".pt")) for pattern in asked[0])


def test_a_hub_id_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HFValidationError

    def download(*_: object, **__: object) -> str:
        raise HFValidationError("no")

    hub(monkeypatch, download)
    with pytest.raises(BadInput, match="no such model"):
        resolve_source("someone/some-model")


def test_a_hub_repository_that_is_no_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub(monkeypatch, lambda *_, **__: str(tmp_path))
    with pytest.raises(BadInput, match="not a transformers model"):
        resolve_source("someone/some-data")
