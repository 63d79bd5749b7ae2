"""When Python looks for garbage while a package is made."""

import gc
import weakref

import pytest

from graphopt.io import keeping_what_is, without_collection


class Knot:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_there_before_is_not_collected_until_the_end() -> None:
    before = Knot()
    gone = weakref.ref(before)
    with keeping_what_is():
        del before
        gc.collect()
        assert gone() is not None
    gc.collect()
    assert gone() is None


def test_what_is_made_inside_is_collected() -> None:
    with keeping_what_is():
        gone = weakref.ref(Knot())
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("collecting", [True, False])
def test_collection_is_as_it_was_afterwards(collecting: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
