"""Tokenizer files that onnxruntime-genai reads as transformers does."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

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
_PROBES = (
    "def f(x):\n    return x  # naïve\n",
    " The quick brown fox's 12345.67 dollars, (isn't it?)",
    "Größe 世界 🙂\t\tend",
)


def write_tokenizer(source: Path, staging: Path, context_length: int) -> list[str]:
    """Write the source's tokenizer into `staging` so that genai tokenizes alike; what the user should know.

    `tokenizer_class` is the first of the source's own and the usual ones with which genai gives, for a few
    probing texts, the ids that the tokenizers library gives. The chat template is put inside
    tokenizer_config.json.
    """
    copy_tokenizer(source, staging)
    if not (staging / "tokenizer.json").is_file():
        _convert(source, staging)
    if not (staging / "tokenizer.json").is_file():
        return ["no tokenizer was found in the source: the package generates from token ids only"]
    path = staging / "tokenizer_config.json"
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # Transformers writes 1e30 for "no limit", which genai cannot read as a whole number.
    settings["model_max_length"] = min(
        int(settings.get("model_max_length") or context_length), context_length
    )
    template = staging / "chat_template.jinja"
    if template.is_file():
        settings.setdefault("chat_template", template.read_text(encoding="utf-8"))
    own = settings.get("tokenizer_class")
    for name in dict.fromkeys((own, *_CLASSES) if own else _CLASSES):
        path.write_text(_json(settings | {"tokenizer_class": name}), encoding="utf-8")
        if _agrees(staging):
            return []
    path.write_text(_json(settings), encoding="utf-8")
    return ["onnxruntime-genai does not tokenize as this model's tokenizer does: give it token ids"]


def _convert(source: Path, staging: Path) -> None:
    from transformers import AutoTokenizer

    with quiet(), contextlib.suppress(OSError, ValueError, ImportError):
        AutoTokenizer.from_pretrained(source).save_pretrained(staging)


def _agrees(folder: Path) -> bool:
    import onnxruntime_genai as genai
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    markers = [token.content for token in ours.get_added_tokens_decoder().values() if token.special][:2]
    try:
        theirs = genai.Tokenizer(str(folder))
        return all(
            list(theirs.encode(text)) == ours.encode(text).ids for text in (*_PROBES, "hello".join(markers))
        )
    except RuntimeError:
        return False


def _json(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
