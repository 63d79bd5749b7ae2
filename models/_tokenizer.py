"""Tokenizer files that onnxruntime-genai reads as transformers does."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from graphopt.errors import BadInput
from graphopt.export import quiet

from ._files import copy_tokenizer

# genai reads tokenizer.json by the class named in tokenizer_config.json, of which it knows some.
_CLASSES = (
    "PreTrainedTokenizerFast",
    "LlamaTokenizer",
    "GemmaTokenizer",
    "T5Tokenizer",
    "XLMRobertaTokenizer",
)
_VOCABULARIES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.spm", "*.tiktoken", "*.bpe")
_PROBES = (
    "def f(x):\n    return x  # naïve\n",
    " The quick brown fox's 12345.67 dollars, (isn't it?)",
    "Größe 世界 🙂\t\tend",
)


def write_tokenizer(source: Path, staging: Path, context_length: int) -> list[str]:
    """Write the source's tokenizer into `staging` so that genai tokenizes alike; what the user should know.

    `tokenizer_class` is the first of the source's own and the usual ones with which genai gives, for some
    probing texts, the ids that the tokenizers library gives without special tokens: genai adds those only if
    asked, and then as `add_bos_token` and `add_eos_token` say. The chat template is put inside
    tokenizer_config.json. `staging` must hold genai_config.json. Raises `BadInput` for damaged files.
    """
    copy_tokenizer(source, staging)
    file, path = staging / "tokenizer.json", staging / "tokenizer_config.json"
    if not file.is_file():
        _convert(source, staging)
    if not file.is_file():
        return ["no tokenizer was found in the source: the package generates from token ids only"]
    try:
        ours = Tokenizer.from_file(str(file))
        before, after = _adds(ours)
    except Exception as error:  # the library raises no narrower one
        raise BadInput(f"{source / file.name} is not a tokenizer: {error}") from error
    settings = _settings(path) if path.is_file() else {}
    # Transformers writes 1e30 for "no limit", which genai cannot read as a whole number.
    longest = settings.get("model_max_length")
    settings["model_max_length"] = int(
        min(longest or context_length, context_length) if isinstance(longest, int | float) else context_length
    )
    settings["add_bos_token"], settings["add_eos_token"] = before, after
    template = staging / "chat_template.jinja"
    if template.is_file():
        settings.setdefault("chat_template", template.read_text(encoding="utf-8", errors="replace"))
    own = settings.get("tokenizer_class")
    for name in dict.fromkeys((own, *_CLASSES) if own else _CLASSES):
        path.write_text(_json(settings | {"tokenizer_class": name}), encoding="utf-8")
        if _agrees(staging, ours):
            return []
    path.write_text(_json(settings), encoding="utf-8")
    return ["onnxruntime-genai does not tokenize as this model's tokenizer does: give it token ids"]


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path.name} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path.name} is damaged: it holds no settings by name")
    return found


def _adds(tokenizer: Tokenizer) -> tuple[bool, bool]:
    """Whether the tokenizer puts something before, and after, the text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    return full[: len(bare)] != bare, full[-len(bare) :] != bare


def _convert(source: Path, staging: Path) -> None:
    """Have transformers write tokenizer.json, if there is anything to make it from."""
    if not any(found for pattern in _VOCABULARIES for found in source.glob(pattern)):
        return  # transformers would make up an empty one
    from transformers import AutoTokenizer

    # A class may raise anything where a file of its own is missing; the package is as good without.
    with quiet(), contextlib.suppress(Exception):
        AutoTokenizer.from_pretrained(source).save_pretrained(staging)


def _agrees(folder: Path, ours: Tokenizer) -> bool:
    texts = list(_probes(ours))
    worker = Path(__file__).with_name("_tokenize.py")
    done = subprocess.run(
        [sys.executable, "-P", str(worker)],
        input=json.dumps({"folder": str(folder), "texts": texts}),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    expected = [ours.encode(text, add_special_tokens=False).ids for text in texts]
    return done.returncode == 0 and json.loads(done.stdout) == expected


def _probes(tokenizer: Tokenizer) -> Iterator[str]:
    """Usual text, special tokens around a word, and pieces from all over the vocabulary."""
    yield from _PROBES
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    yield "hello".join(special[:2])
    size = tokenizer.get_vocab_size()
    decoded = (tokenizer.decode([token]).strip() for token in range(0, size, max(1, size // 1000)))
    pieces = [piece for piece in decoded if piece.isprintable() and "\ufffd" not in piece]
    for start in range(0, len(pieces), 20):
        yield " ".join(pieces[start : start + 20])


def _json(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
