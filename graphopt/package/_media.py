"""What a package says of a picture or of recorded speech."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.io import read_json

if TYPE_CHECKING:
    from graphopt.interface import Interface
    from graphopt.package._package import RunnablePackage

__all__ = ["PICTURES", "SOUNDS", "Finding", "feeds_of_file", "findings", "takes_files"]

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SOUNDS = frozenset({".flac", ".mp3", ".ogg", ".wav"})
"""How names of files end that are taken for pictures and for sound."""
_MOST = 5
"""Classes that are named of a picture."""
_SURE = 0.5
"""The score from which on an object counts as one that is there."""
_RATE = 16_000
"""Samples a second where a feature extractor names none."""

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Finding:
    """A label, or what was said; its score or its share of the picture; of an object the corners x1, y1, x2,
    y2 of its box, in pixels of the file."""

    text: str
    score: float | None = None
    box: tuple[int, int, int, int] | None = None


def takes_files(package: RunnablePackage) -> bool:
    """Whether `findings` knows what to make of a file for this package."""
    speech = package.manifest.task == "automatic-speech-recognition" and "model" in package.manifest.graphs
    return speech or package.manifest.task in _PICTURES


def findings(package: RunnablePackage, file: Path, *, threads: int | None = None) -> list[Finding]:
    """What `package` finds in a picture (classes, objects, classes of pixels, depths), or what speech says.

    The file becomes arrays as the package's own preprocessor_config.json says, by transformers; sound is
    mixed to one channel and resampled. Raises `BadInput` for a file that is no picture or sound,
    `EnvironmentProblem` where Pillow, soundfile or transformers is missing.
    """
    if file.is_dir():
        raise BadInput(f"{file} is a folder", hint="Give one file in it.")
    if not file.is_file():
        raise BadInput(f"{file} does not exist")
    interface = package.interface()
    if package.manifest.task in _PICTURES:
        feeds, size = _picture(package.path, file)
        results = package.run(_given(interface, feeds), threads=threads)
        return _PICTURES[package.manifest.task](results, _labels(package), size)
    results = package.run(_given(interface, _sound(package.path, file)), threads=threads)
    letters = results["logits"][0].argmax(-1)
    tokenizer = _transformers("AutoTokenizer", package.path)
    return [Finding(tokenizer.decode(letters.tolist(), skip_special_tokens=True))]


def feeds_of_file(folder: Path, interface: Interface, file: Path) -> dict[str, NDArray[Any]]:
    """The arrays that a picture or sound is for a model of this `interface`, as far as a file says them.

    The preprocessor_config.json in `folder` says how; errors are those of `findings`.
    """
    return _given(
        interface, _sound(folder, file) if file.suffix.lower() in SOUNDS else _picture(folder, file)[0]
    )


def _given(interface: Interface, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Those of `arrays` that the model takes; no padding where it takes a mask."""
    first = next(iter(arrays.values()))
    made = {"attention_mask": np.ones(first.shape, np.int64), **arrays}
    return {s.name: made[s.name].astype(s.dtype) for s in interface.inputs if s.name in made}


def _picture(folder: Path, file: Path) -> tuple[Arrays, tuple[int, int]]:
    """Arrays by name, and the picture's width and height."""
    try:
        from PIL import Image
    except ImportError as error:
        raise _missing("pictures", "Pillow") from error
    processor = _transformers("AutoImageProcessor", folder)
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{file} is no picture that can be read: {error}") from error
    return dict(processor(images=image, return_tensors="np")), image.size


def _sound(folder: Path, file: Path) -> Arrays:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: without libsndfile
        raise _missing("sound", "soundfile") from error
    from scipy.signal import resample_poly

    extractor = _transformers("AutoFeatureExtractor", folder)
    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise BadInput(f"{file} is no sound that can be read: {error}") from error
    if not len(samples):
        raise BadInput(f"{file} holds no sound")
    wanted = int(getattr(extractor, "sampling_rate", _RATE))
    common = math.gcd(wanted, rate)
    wave = resample_poly(samples.mean(1), wanted // common, rate // common)
    return dict(extractor(wave, sampling_rate=wanted, return_tensors="np"))


def _transformers(name: str, folder: Path) -> Any:
    """What the class `name` of transformers reads from the package."""
    try:
        import transformers
    except ImportError as error:
        raise _missing("pictures and sound", "transformers") from error
    try:
        return getattr(transformers, name).from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{folder} does not say how a file becomes its inputs: {error}",
            hint="Give arrays in an .npz file instead.",
        ) from error
    except ImportError as error:
        raise EnvironmentProblem(str(error)) from error


def _missing(what: str, package: str) -> EnvironmentProblem:
    return EnvironmentProblem(f"reading {what} needs {package}", hint="pip install 'graphopt[export,media]'")


def _labels(package: RunnablePackage) -> Callable[[int], str]:
    file = package.path / "config.json"
    named = (read_json(file) if file.is_file() else {}).get("id2label") or {}
    return lambda index: str(named.get(str(index), index))


def _classes(results: Arrays, label: Callable[[int], str], size: tuple[int, int]) -> list[Finding]:
    shares = _softmax(results["logits"][0])
    order = np.argsort(-shares, kind="stable")[:_MOST]
    return [Finding(label(int(i)), float(shares[i])) for i in order]


def _objects(results: Arrays, label: Callable[[int], str], size: tuple[int, int]) -> list[Finding]:
    """Of DETR's outputs: the last class is no object, unless it has a name of its own."""
    logits, boxes = results["logits"][0], results["pred_boxes"][0]
    last = logits.shape[-1] - 1
    named = label(last) != str(last)
    scores = 1 / (1 + np.exp(-logits)) if named else _softmax(logits)[:, :-1]
    found = []
    for row in np.argsort(-scores.max(-1), kind="stable"):
        best = int(scores[row].argmax())
        if scores[row, best] < _SURE:
            break
        centre, half = boxes[row, :2], boxes[row, 2:] / 2
        corners = np.concatenate([centre - half, centre + half]) * np.asarray(size * 2)
        x1, y1, x2, y2 = (int(v) for v in np.rint(corners))
        found.append(Finding(label(best), float(scores[row, best]), (x1, y1, x2, y2)))
    return found


def _regions(results: Arrays, label: Callable[[int], str], size: tuple[int, int]) -> list[Finding]:
    classes, counts = np.unique(results["logits"][0].argmax(0), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [Finding(label(int(classes[i])), float(counts[i] / counts.sum())) for i in order]


def _depths(results: Arrays, label: Callable[[int], str], size: tuple[int, int]) -> list[Finding]:
    depth = results["predicted_depth"][0]
    return [Finding(f"depths from {depth.min():.4g} to {depth.max():.4g}, the mean {depth.mean():.4g}")]


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: NDArray[Any] = powers / powers.sum(-1, keepdims=True)
    return shares


_PICTURES: dict[str, Callable[[Arrays, Callable[[int], str], tuple[int, int]], list[Finding]]] = {
    "image-classification": _classes,
    "object-detection": _objects,
    "image-segmentation": _regions,
    "depth-estimation": _depths,
}
