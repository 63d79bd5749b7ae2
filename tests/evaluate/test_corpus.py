"""Documents from files and folders, and the windows they are measured in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphopt import BadInput
from graphopt.evaluate._corpus import read_corpus, windows
from graphopt.runtime import Tokenizer
from tests.evaluate._sides import text_of, tokenizer_in


def lines(path: Path, *documents: object) -> Path:
    path.write_text("\n".join(json.dumps(document) for document in documents) + "\n")
    return path


def tokens_of(path: Path, folder: Path, context: int) -> list[list[int]]:
    found = windows(read_corpus(path), Tokenizer(tokenizer_in(folder)), context)
    return [window.tokens.tolist() for window in found]


def test_a_text_is_one_whose_windows_are_documents(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(text_of([1, 2, 3, 4, 5, 6]))
    corpus = read_corpus(tmp_path / "t.txt")
    found = list(windows(corpus, Tokenizer(tokenizer_in(tmp_path / "w")), 4))

    assert corpus.is_one_text
    assert [window.tokens.tolist() for window in found] == [[1, 2, 3, 4], [5, 6]]
    assert len({window.document for window in found}) == 2


def test_of_many_documents_each_is_begun_before_one_goes_on(tmp_path: Path) -> None:
    data = lines(tmp_path / "d.jsonl", {"text": text_of([1, 2, 3, 4])}, {"text": text_of([5, 6, 7])})

    assert tokens_of(data, tmp_path / "w", 2) == [[1, 2], [5, 6], [3, 4]]


def test_a_document_keeps_its_name_in_all_its_windows(tmp_path: Path) -> None:
    data = lines(tmp_path / "d.jsonl", {"text": text_of([1, 2, 3, 4])}, {"text": text_of([5, 6])})
    found = list(windows(read_corpus(data), Tokenizer(tokenizer_in(tmp_path / "w")), 2))

    assert found[0].document == found[2].document != found[1].document


def test_domains_take_turns(tmp_path: Path) -> None:
    documents = [{"text": text_of([i, i]), "domain": "a" if i < 4 else "b"} for i in (1, 2, 3, 4, 5)]
    data = lines(tmp_path / "d.jsonl", *documents)

    assert read_corpus(data).domains == ("a", "b")
    assert [t[0] for t in tokens_of(data, tmp_path / "w", 8)] == [1, 4, 2, 5, 3]


def test_one_domain_is_none_to_tell_apart(tmp_path: Path) -> None:
    assert read_corpus(lines(tmp_path / "d.jsonl", {"text": "a", "domain": "x"})).domains == ()


def test_a_folder_has_a_document_a_file_and_a_domain_a_subfolder(tmp_path: Path) -> None:
    for name in ("prose/a.txt", "prose/b.txt", "code/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "notes.md").write_text("not a document")

    corpus = read_corpus(tmp_path)

    assert [(d.text, d.domain) for d in corpus.documents] == [
        ("code/c.txt", "code"),
        ("prose/a.txt", "prose"),
        ("prose/b.txt", "prose"),
    ]


def test_a_document_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    corpus = read_corpus(lines(tmp_path / "d.jsonl", *[{"text": "a b"}] * 3))

    assert len(corpus.documents) == 1
    assert corpus.notes == ("2 documents of d.jsonl are there twice and count once",)


def test_the_digest_is_of_the_documents(tmp_path: Path) -> None:
    one = read_corpus(lines(tmp_path / "d.jsonl", {"text": "a"}, {"text": "b"})).digest

    assert read_corpus(lines(tmp_path / "e.jsonl", {"text": "a"}, {"text": "b"})).digest == one
    assert read_corpus(lines(tmp_path / "f.jsonl", {"text": "a"}, {"text": "c"})).digest != one


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"txt": "b"}\n', r"d\.jsonl:2: "),
        ("not json\n", r"d\.jsonl:1: "),
        ('{"text": " "}\n', "holds no text"),
    ],
)
def test_lines_that_are_no_documents(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "d.jsonl").write_text(content)

    with pytest.raises(BadInput, match=message):
        read_corpus(tmp_path / "d.jsonl")


def test_a_folder_without_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no text"):
        read_corpus(tmp_path)
