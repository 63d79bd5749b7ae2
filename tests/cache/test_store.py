"""Entries appear whole, are found again, and go when there is no room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graphopt.cache import Store, cache_size
from graphopt.cache._entry import Damaged, Header, state_of
from graphopt.errors import BadInput
from graphopt.io import cache_folder

KEYS = [f"{number:064x}" for number in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", 10_000)


def put(store: Store, key: str, size: int = 3000, age: float = 0) -> None:
    def fill(folder: Path) -> None:
        (folder / "data").write_bytes(bytes(size))
        Header(key=key, source="net", step="cse", graphopt="0", created=0).write(folder)

    store.put(key, fill)
    place = store.folder / key
    if age and place.is_dir():
        os.utime(place, (place.stat().st_mtime - age,) * 2)


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.entries()]


def test_what_was_put_is_found(store: Store) -> None:
    put(store, KEYS[0])
    found = store.find(KEYS[0])

    assert found is not None
    assert found[0] == store.folder / KEYS[0]
    assert store.find(KEYS[1]) is None


def test_the_first_of_two_that_write_the_same_stays(store: Store) -> None:
    put(store, KEYS[0], 10)
    put(store, KEYS[0], 20)

    assert (store.folder / KEYS[0] / "data").stat().st_size == 10
    assert [p.name for p in store.folder.iterdir()] == [KEYS[0]]


def test_what_was_not_used_for_longest_goes_first(store: Store) -> None:
    for index, key in enumerate(KEYS[:3]):
        put(store, key, age=100 - index)
    store.find(KEYS[0])
    put(store, KEYS[3])

    assert set(keys(store)) == {KEYS[0], KEYS[2], KEYS[3]}


def test_an_entry_larger_than_the_cache_is_not_kept(store: Store) -> None:
    put(store, KEYS[0])
    put(store, KEYS[1], 20_000)

    assert keys(store) == [KEYS[0]]


def test_a_file_that_entries_share_counts_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(bytes(6000))
    for key in KEYS[:2]:

        def fill(folder: Path, key: str = key) -> None:
            os.link(tmp_path / "weights", folder / "weights")
            Header(key=key, source="net", step="cse", graphopt="0", created=0).write(folder)

        store.put(key, fill)

    assert len(keys(store)) == 2
    assert 6000 < sum(entry.bytes for entry in store.entries()) < 7000


def test_an_error_while_writing_leaves_nothing(store: Store) -> None:
    def fill(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        store.put(KEYS[0], fill)

    assert list(store.folder.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_entry(store: Store) -> None:
    put(store, KEYS[0])
    old, new = store.folder / ".partial-old", store.folder / ".partial-new"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    put(store, KEYS[1])

    assert not old.exists()
    assert new.exists()  # its process may be about to hold it


def test_a_damaged_header_is_dropped(store: Store) -> None:
    put(store, KEYS[0])
    (store.folder / KEYS[0] / "entry.json").write_text("{")

    assert store.find(KEYS[0]) is None
    assert keys(store) == []


def test_clearing_removes_everything(store: Store) -> None:
    for key in KEYS[:2]:
        put(store, key)

    assert store.clear()[0] == 2
    assert list(store.folder.iterdir()) == []
    assert store.clear() == (0, 0)


@pytest.mark.parametrize("damage", ["file", "scratch", "missing", "source"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123")
    folder = tmp_path / KEYS[0]
    folder.mkdir()
    (folder / "state").write_bytes(b"abc")
    (folder / "scratch").write_bytes(b"0123456789")
    header = Header(
        key=KEYS[0],
        source="net",
        step="cse",
        graphopt="0",
        created=0,
        files={"state": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        scratch={"scratch": 8},
        sources={str(source): state_of(source)},
    )
    assert header.contents(folder) == {"state": b"abc"}
    match damage:
        case "file":
            (folder / "state").write_bytes(b"abd")
        case "scratch":
            (folder / "scratch").write_bytes(b"0123456")
        case "missing":
            (folder / "scratch").unlink()
        case "source":
            source.write_bytes(b"01234")

    with pytest.raises(Damaged):
        header.contents(folder)


@pytest.mark.parametrize(
    ("text", "size"), [("", 20 * 10**9), ("500MB", 5 * 10**8), ("1.5g", 15 * 10**8), ("0", 0)]
)
def test_the_size_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE_SIZE", text)

    assert cache_size() == size


def test_a_wrong_size_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE_SIZE", "much")
    with pytest.raises(BadInput, match="not a size"):
        cache_size()


def test_the_folder_is_the_users_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("GRAPHOPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/graphopt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "graphopt"
