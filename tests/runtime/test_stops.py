"""A text ends before a stop string, wherever its pieces are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphopt.runtime._stops import until

letters = st.text("ab", max_size=4)


def stopped(pieces: list[str], stop: list[str]) -> tuple[list[str], bool]:
    called: list[bool] = []
    return list(until(pieces, stop, lambda: called.append(True))), bool(called)


@given(st.lists(letters, max_size=6), st.lists(letters, max_size=3))
def test_the_text_is_cut_at_the_first_one(pieces: list[str], stop: list[str]) -> None:
    text = "".join(pieces)
    shown, ended = stopped(pieces, stop)
    places = [text.index(word) for word in stop if word and word in text]

    assert ended == bool(places)
    assert "".join(shown) in {text[:place] for place in places} if places else "".join(shown) == text
    assert all(word not in "".join(shown) for word in stop if word)
    assert all(shown)


def test_only_what_may_begin_one_is_held_back() -> None:
    came = until(iter(["x", "a", "b", "y", "a"]), ["abc"], lambda: None)

    assert list(came) == ["x", "aby", "a"]
