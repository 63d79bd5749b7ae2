"""Files a package takes over from the source."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphopt.errors import BadInput
from graphopt.ir import inside_repository, unreadable
from graphopt.runtime import GenerationConfig

# What transformers' tokenizers read, by any class, and files of sentencepiece and tiktoken by other names.
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "target.spm",
    "target_vocab.json",
    "vocab-src.json",
    "vocab-tgt.json",
    "vocab.bpe",
    "bpe.codes",
    "dict.txt",
    "prophetnet.tokenizer",
    "byte_maps.json",
    "emoji.json",
    "entity_vocab.json",
    "normalizer.json",
    "word_pronunciation.json",
    "word_shape.json",
    "tekken.json",
    "*.tiktoken",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
)
_GENERATION = "generation_config.json"
_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_SENTENCES = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")
_PICKLED = (".bin", ".pt", ".pth", ".pkl")


def copy_tokenizer(source: Path, staging: Path) -> None:
    """Copy whatever tokenizer files there are."""
    _copy(source, staging, _TOKENIZER)


def generation_files(source: Path) -> list[Path]:
    """What `copy_tokenizer` and `copy_generation` copy."""
    return _found(source, (*_TOKENIZER, _GENERATION))


def copy_sentence_modules(source: Path, staging: Path) -> list[str]:
    """Copy what makes one vector of a text's (sentence-transformers' pooling and the like); what was left.

    The graph ends before it: whoever runs it does the rest. In the old layout the model lies in a folder of
    its own, and the others beside it; the package has the new one.
    """
    _copy(source, staging, _SENTENCES)
    listing = staging / _SENTENCES[0]
    if not listing.is_file() and modules_root(source) is not None:
        own, source = source.name, source.parent
        entries = [
            e | {"path": ""} if e.get("path") == own else e for e in module_entries(source / listing.name)
        ]
        listing.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        _copy(source, staging, _SENTENCES[1:2])
    pickled: list[str] = []
    for folder in _modules(listing):
        _copy(source, staging, (f"{folder}/*.json", f"{folder}/*.txt", f"{folder}/*.safetensors"))
        pickled += [
            f"{folder}/{path.name}"
            for path in sorted((source / folder).glob("*"))
            if path.suffix in _PICKLED and not any((source / folder).glob("*.safetensors"))
        ]
    return [f"not taken over, as it is pickled: {name}" for name in pickled]


def modules_root(source: Path) -> Path | None:
    """The folder whose list of modules names the model in `source`: that itself, or the one above."""
    if (source / _SENTENCES[0]).is_file():
        return source
    return source.parent if _is_module_of(source, source.parent / _SENTENCES[0]) else None


def _is_module_of(folder: Path, listing: Path) -> bool:
    with contextlib.suppress(BadInput, OSError):  # what lies beside a model may be anything
        return folder.name in _modules(listing)
    return False


def _modules(listing: Path) -> list[str]:
    """The folders that a list of modules names, those below its own."""
    paths = [entry.get("path") for entry in module_entries(listing)]
    return [p for p in paths if isinstance(p, str) and p not in ("", "..") and Path(p).name == p]


def module_entries(listing: Path) -> list[dict[str, Any]]:
    """What a list of modules says of each; none where there is no list."""
    try:
        found = json.loads(listing.read_bytes())
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{listing.name} is damaged: {error}") from error
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def copy_processor(source: Path, staging: Path) -> None:
    """Copy what says how images become pixel values, or sounds features."""
    _copy(source, staging, _PROCESSOR)


def copy_config(source: Path, staging: Path) -> None:
    """Copy the model's configuration, which names classes and labels."""
    _copy(source, staging, ("config.json",))


def copy_generation(source: Path, staging: Path) -> list[str]:
    """Copy how the model's makers generate: first token, last token, penalties; what of it does not hold."""
    name = _GENERATION
    _copy(source, staging, (name,))
    unheeded = GenerationConfig.of(staging, name).unheeded
    if not unheeded:
        return []
    said = ", ".join(f"{key}={value:g}" for key, value in unheeded.items())
    return [f"{name} asks for {said}, which `graphopt run` does without"]


def beyond_the_table(staging: Path, config: Mapping[str, Any]) -> list[str]:
    """A note if the packaged tokenizer has ids for which the model's embedding has no row."""
    rows, ids = config.get("vocab_size"), _ids(staging)
    if not isinstance(rows, int) or not ids or max(ids.values()) < rows:
        return []
    beyond = sorted((number, token) for token, number in ids.items() if number >= rows)
    names = ", ".join(f"{token!r} ({number})" for number, token in beyond[:3])
    more = f" and {len(beyond) - 3} more" if len(beyond) > 3 else ""
    return [
        f"the tokenizer has tokens for which the model has no row ({rows} rows): {names}{more}; "
        "a text with one of them cannot be run"
    ]


def _ids(folder: Path) -> dict[str, int]:
    """The ids of all tokens, where the tokenizer's own file says them."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            vocabulary: dict[str, int] = Tokenizer.from_file(str(path)).get_vocab()
        except Exception as error:  # the library raises no narrower one
            raise BadInput(f"{path.name} is not a tokenizer: {error}") from error
        return vocabulary
    lines = folder / "vocab.txt"
    text = lines.read_text(encoding="utf-8", errors="replace") if lines.is_file() else ""
    return {token: number for number, token in enumerate(text.splitlines())} | _added(folder)


def _added(folder: Path) -> dict[str, int]:
    try:
        found = json.loads((folder / "added_tokens.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {t: n for t, n in found.items() if isinstance(n, int)} if isinstance(found, dict) else {}


def _found(source: Path, names: tuple[str, ...]) -> list[Path]:
    return [path for name in names for path in sorted(source.glob(name)) if path.is_file()]


def _copy(source: Path, staging: Path, names: tuple[str, ...]) -> None:
    """Copy files of these names, patterns among them. `BadInput` for a link out of the model's repository."""
    for path in _found(source, names):
        unfetched = unreadable(path)
        if unfetched is not None:
            raise unfetched
        target = staging / path.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(inside_repository(path, source), target)
