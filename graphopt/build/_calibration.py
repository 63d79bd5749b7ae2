"""What a graph of a run is calibrated on."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.calibrate import CalibrationData, from_arrays, from_windows
from graphopt.errors import BadInput
from graphopt.evaluate import CALIBRATION, Corpus, corpus_of, read_corpus, sequences
from graphopt.export import Exported
from graphopt.interface import Interface
from graphopt.io import digest_of, read_arrays, read_json
from graphopt.package import PICTURES, SOUNDS, feeds_of_file
from graphopt.plugins import registry
from graphopt.runtime import Tokenizer

__all__ = ["calibration_of"]

_TOKENS = (16 * 512, 128 * 512)
"""Of text that are read, at least and at most: what GPTQ and AWQ are content with, and what learning is."""
_WORK = 1 << 43
"""Weights times tokens, between the two: a minute's work for a billion weights."""
_WINDOW = 512
"""Tokens of a call at most."""
_SHORTEST = 16
"""Tokens of a short text. A judgement."""
_MEDIA = 256
"""Pictures or sounds of a folder that are read at most, as far apart from each other as they are."""
_UNKNOWN = 0.1
"""Of all tokens: more that the tokenizer has no other word for, and the text is not of its language."""


def calibration_of(exported: Exported, given: str | Path | None) -> CalibrationData | None:
    """What is `given`, or else the embedded text, as calls of a graph.

    None where the graph takes no text, and for the embedded text also where that does not fit. `BadInput` for
    anything that is given and no calibration data, or does not fit.
    """
    if given is None:
        path = _embedded()
        try:
            return _of_text(exported, read_corpus(path))
        except BadInput:
            return None
    path = Path(given)
    if path.exists():
        found_here = [*path.rglob("*.*")] if path.is_dir() else [path]
        files = sorted(file for file in found_here if file.suffix in (".npy", ".npz"))
        if files:
            arrays = (_arrays_of(file, exported.interface) for file in files)
            data = from_arrays(path.name, arrays, exported.interface)
            return replace(data, content=digest_of(path) if path.is_file() else "", file=str(given))
        if media := sorted(f for f in found_here if f.suffix.lower() in PICTURES | SOUNDS):
            return replace(_of_media(exported, path, media), file=str(given))
        if path.is_dir() and not any(file.suffix == ".txt" for file in found_here):
            raise BadInput(
                f"{path} has nothing to calibrate on",
                hint="It may have text (.txt, one a document), pictures, sounds, or arrays (.npz, .npy).",
            )
        found = _of_text(exported, read_corpus(path))
        return None if found is None else replace(found, file=str(given))
    if not re.fullmatch(r"[\w.]+:\w+", str(given)):
        raise BadInput(
            f"there is no {given} to calibrate on",
            hint="Give text, a .jsonl file, an .npz file of inputs, a folder of text, pictures or sounds, or "
            "MODULE:FUNCTION.",
        )
    if not registry.allows_any():
        raise BadInput(
            f"{given} is code, and plugins are switched off or limited here",
            hint="Save what it gives with numpy.savez, and give the .npz file.",
        )
    return _of_items(exported, str(given), _called(str(given)))


def _arrays_of(file: Path, interface: Interface) -> Mapping[str, NDArray[Any]]:
    """By input, what `file` holds; an .npy file is for a model with one input."""
    if file.suffix == ".npz":
        return read_arrays(file)
    if len(interface.inputs) != 1:
        names = ", ".join(spec.name for spec in interface.inputs)
        raise BadInput(
            f"{file} is one array, and the model has the inputs {names}",
            hint="Save them together with numpy.savez, by these names.",
        )
    try:
        return {interface.inputs[0].name: np.load(file, allow_pickle=False)}
    except (OSError, EOFError, ValueError) as error:
        raise BadInput(f"{file} is no array of numbers: {error}") from error


def _of_media(exported: Exported, path: Path, files: list[Path]) -> CalibrationData:
    """Pictures, or sounds, each as the source's own preprocessing makes arrays of it."""
    folder, interface = exported.source_dir, exported.interface
    if folder is None:
        raise BadInput(
            f"nobody says how {files[0].name} becomes the inputs of {exported.task} models in .onnx files",
            hint="Give arrays for its inputs in an .npz file.",
        )
    some = files[:: -(-len(files) // _MEDIA)]
    calls = [feeds_of_file(folder, interface, file) for file in some]
    shapes = {tuple(array.shape for array in call.values()) for call in calls}
    if len(shapes) == 1 and all(spec.dims and isinstance(spec.dims[0], str) for spec in interface.inputs):
        calls = [{name: np.concatenate([call[name] for call in calls]) for name in calls[0]}]
    return from_arrays(path.name, calls, interface)


def _called(name: str) -> list[Any]:
    """What the function gives that `name` names, "module:function"."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        call: Callable[[], Iterable[Any]] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BadInput(f"there is no function {name} to calibrate on: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    try:
        return list(call())
    except Exception as error:
        raise BadInput(f"{name} failed to give anything to calibrate on: {error!r}") from error


def _of_items(exported: Exported, name: str, items: list[Any]) -> CalibrationData | None:
    if items and all(isinstance(item, str) for item in items):
        return _of_text(exported, corpus_of(name, items))
    if items and all(isinstance(item, Mapping) for item in items):
        return from_arrays(name, items, exported.interface)
    raise BadInput(
        f"{name} gives neither texts nor dicts of arrays by input, of which at least one is needed"
    )


def _of_text(exported: Exported, corpus: Corpus) -> CalibrationData | None:
    domain, folder = exported.domain(), exported.source_dir
    if domain is None or folder is None or not (folder / "tokenizer.json").is_file():
        return None
    found = list(_windows(exported, corpus, folder))
    if not found:
        raise BadInput(f"{corpus.name} has less than two tokens to calibrate on")
    data = from_windows(corpus.name, found, domain)
    return None if data is None else replace(data, content=corpus.digest)


def _windows(exported: Exported, corpus: Corpus, folder: Path) -> Iterator[NDArray[np.int64]]:
    """The first tokens of the documents, in turn. `BadInput` where they are not of the model.

    Where a model reads whole texts, as encoders do, each is as the tokenizer frames one, and half of the
    tokens are in short ones: of these the frame is a larger part, and in some channels it alone is large.
    """
    domain, tokenizer = exported.domain(), Tokenizer(folder)
    longest = (domain.positions if domain is not None else None) or _WINDOW
    found = [
        window.tokens
        for window in sequences(corpus, tokenizer, tokens=_tokens(exported), context=longest, longest=_WINDOW)
    ]
    tokens = np.concatenate(found) if found else np.empty(0, np.int64)
    size = (exported.config or {}).get("vocab_size")
    if isinstance(size, int) and tokens.size and tokens.max() >= size:
        raise BadInput(
            f"{folder / 'tokenizer.json'} makes token {tokens.max()} of {corpus.name}, "
            f"and the model knows {size} tokens",
            hint="It is the tokenizer of another model.",
        )
    share = np.mean(tokens == _unknown(folder)) if tokens.size else 0
    if share > _UNKNOWN:
        raise BadInput(
            f"{share:.0%} of the tokens of {corpus.name} are unknown to the model's tokenizer",
            hint="Calibrate on text that the model is meant for.",
        )
    part = exported.part()
    if part is None or part.states(exported.interface) or not (closing := tokenizer.closing()):
        yield from found
    else:
        yield from _closed(found, len(tokenizer.opening()), closing, min(longest, _WINDOW))


def _closed(
    windows: Iterable[NDArray[np.int64]], opening: int, closing: list[int], longest: int
) -> Iterator[NDArray[np.int64]]:
    """`windows`, which begin with `opening` tokens, as texts that end with `closing`, of at most `longest`.

    Every second one is several: a half of it, a quarter, and so on.
    """
    most = longest - opening - len(closing)
    for index, window in enumerate(windows):
        begun, left, size = window[:opening], window[opening:][:most], most
        while len(left) > 1:
            size = max(_SHORTEST, size // 2) if index % 2 else most
            yield np.concatenate([begun, left[:size], closing]).astype(np.int64)
            left = left[size:]


def _tokens(exported: Exported) -> int:
    """How many tokens of text a model of this size is calibrated on."""
    least, most = _TOKENS
    weights = sum(v.const_value.size for v in exported.model.graph.initializers.values() if v.const_value)
    return max(least, min(most, _WORK // max(1, weights)))


def _unknown(folder: Path) -> int:
    """The token that stands for what a tokenizer has no other for; -1 where there is none."""
    model = read_json(folder / "tokenizer.json").get("model", {})
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocabulary = model.get("vocab")
    named = vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None
    return named if isinstance(named, int) else -1


def _embedded() -> Path:
    return next(
        folder / CALIBRATION
        for folder in registry.embedded_models().values()
        if (folder / CALIBRATION).is_file()
    )
