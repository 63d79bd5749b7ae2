"""What runs keep for the next one: exported models, and models after steps of a recipe."""

from graphopt.cache._keep import Keep, NotKept
from graphopt.cache._keys import call_key, export_key
from graphopt.cache._run import RunCache, StepCache
from graphopt.cache._settings import cache_size
from graphopt.cache._states import Passed
from graphopt.cache._store import Listed, Store

__all__ = [
    "Keep",
    "Listed",
    "NotKept",
    "Passed",
    "RunCache",
    "StepCache",
    "Store",
    "cache_size",
    "call_key",
    "export_key",
]
