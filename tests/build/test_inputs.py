"""The digests of the files that a package is made from."""

import hashlib
import threading
from pathlib import Path

import pytest

from graphopt.build._inputs import FileDigests, weight_files
from graphopt.export import FOLDER, Source
from graphopt.io import digest_of
from graphopt.io._digests import Stopped


def test_digests_are_those_of_sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.io._digests._AT_ONCE", 7)
    contents = {"empty": b"", "one": b"0123456", "several": bytes(range(100))}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = {name: tmp_path / name for name in contents}
    with FileDigests() as digests:
        digests.begin([files["one"]])
        found = digests.of(files)
    assert found == {name: f"sha256:{hashlib.sha256(c).hexdigest()}" for name, c in contents.items()}


def test_a_digest_that_is_not_wanted_stops(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    unwanted = threading.Event()
    unwanted.set()
    with pytest.raises(Stopped):
        digest_of(file, unwanted=unwanted)


def test_a_file_that_cannot_be_read_matters_only_where_it_is_asked_for(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_bytes(b"content")
    with FileDigests() as digests:
        digests.begin([gone])
        assert digests.of({"there": there})["there"] == digest_of(there)
        with pytest.raises(FileNotFoundError):
            digests.of({"gone": gone})


def test_weights_of_a_folder_are_known_by_their_names(tmp_path: Path) -> None:
    for name in ("model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", "other.safetensors"):
        (tmp_path / name).touch()
    found = weight_files(Source("it", tmp_path, FOLDER))
    assert [path.name for path in found] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
