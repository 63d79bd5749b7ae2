"""Rules about genai_config.json: what onnxruntime-genai does when nobody says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from graphopt.lint import Finding, Subject, rule
from graphopt.runtime import default_threads

_FILE = "genai_config.json"
_MOST = 16  # threads that onnxruntime-genai takes at most where nobody says how many
_FLOAT = 4  # bytes
_SHARE = 4
"""Of the machine's memory a cache has to take one part in so many, to be told of. A judgement."""


@rule("GO601", "threads", "note")
def threads(subject: Subject) -> Iterator[Finding]:
    """genai_config.json does not say how many threads, or more than there are.

    onnxruntime-genai (0.18.0) takes min(16, hardware threads / 2) then: half of what a virtual machine has,
    where a hardware thread is all that there is of a core. On two cores its package of a Llama-3.2-1B's shape
    writes 1.7 times as fast with two threads and a head that is cut (GO303) as at its defaults
    (docs/performance.md). More threads than cores wait for each other.

    Say "intra_op_num_threads" in model.decoder.session_options, on the machine that serves; `graphopt run`
    does by itself.
    """
    decoder = _decoder(subject.settings)
    if decoder is None:
        return
    asked = _table(decoder, "session_options").get("intra_op_num_threads")
    here = default_threads()
    if asked is None:
        taken = max(1, min(_MOST, (os.cpu_count() or 1) // 2))
        if taken < here:
            said = f"nobody says how many threads: onnxruntime-genai takes {taken} of {here} on this machine"
            yield Finding(_FILE, "", said)
    elif isinstance(asked, int) and asked > here:
        yield Finding(_FILE, "", f"{asked} threads, and this machine has {here} for the process")


@rule("GO602", "max-length", "note")
def max_length(subject: Subject) -> Iterator[Finding]:
    """genai_config.json asks for a cache as long as the longest text, which takes much of the memory.

    With past_present_share_buffer onnxruntime-genai allocates the keys and values of max_length tokens for
    each text before the first one is read, and its builder writes the model's context length there.

    Set "max_length" in search to what is served; `graphopt run` does by itself.
    """
    decoder, search = _decoder(subject.settings), _table(subject.settings or {}, "search")
    if decoder is None or search.get("past_present_share_buffer") is not True:
        return
    sizes = [decoder.get(key) for key in ("num_hidden_layers", "num_key_value_heads", "head_size")]
    length = search.get("max_length")
    if not isinstance(length, int) or not all(isinstance(size, int) for size in sizes):
        return
    layers, heads, size = (int(each or 0) for each in sizes)
    taken = 2 * layers * heads * size * _FLOAT * length
    if taken * _SHARE > _memory():
        text = f"max_length {length:,}: the cache of one text takes {taken / 1e9:.1f} GB from the start"
        yield Finding(_FILE, "", text)


def _decoder(settings: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    found = _table(_table(settings or {}, "model"), "decoder")
    return found or None


def _table(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = settings.get(key)
    return found if isinstance(found, Mapping) else {}


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


RULES = (threads, max_length)
