"""A Ray cluster of this machine, to which tests may add nodes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests._cache import ROOT

_OBJECTS = 80 << 20


@pytest.fixture(scope="session")
def head() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of one node, with one core."""
    from ray.cluster_utils import Cluster

    with _starting():
        found = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": _OBJECTS, "include_dashboard": False},
        )
    yield found
    found.shutdown()


@pytest.fixture
def cluster(head: Any) -> str:
    """The address of the cluster."""
    return str(head.address)


@pytest.fixture
def another_node(head: Any) -> Iterator[Callable[[], None]]:
    """Adds a node of one core; what is given kills it."""
    with _starting():
        node = head.add_node(num_cpus=1, object_store_memory=_OBJECTS)
    gone = False

    def kill() -> None:
        nonlocal gone
        gone = True
        head.remove_node(node, allow_graceful=False)

    yield kill
    if not gone:
        kill()


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Nodes import what tests have done, and report nothing."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield
