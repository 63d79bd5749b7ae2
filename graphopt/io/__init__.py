"""Files and texts that nobody vouches for: settings, arrays, digests, disks, names that were mistyped."""

from graphopt.io._arrays import parts_of, read_arrays
from graphopt.io._collection import keeping_what_is, without_collection
from graphopt.io._digests import code_digest, digest_of, digests_below, module_code
from graphopt.io._disk import exclusive, sync
from graphopt.io._nearest import nearest
from graphopt.io._places import cache_folder
from graphopt.io._settings import is_count, read_json, read_toml
from graphopt.io._telemetry import keep_quiet

__all__ = [
    "cache_folder",
    "code_digest",
    "digest_of",
    "digests_below",
    "exclusive",
    "is_count",
    "keep_quiet",
    "keeping_what_is",
    "module_code",
    "nearest",
    "parts_of",
    "read_arrays",
    "read_json",
    "read_toml",
    "sync",
    "without_collection",
]
