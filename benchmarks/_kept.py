"""What was measured of each token, kept by content: what is the same is not measured twice, on no machine."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _contenders import identity, stored
from _damage import Logits, logits_of
from _lms import Tokens
from _recipes import Recipe

from graphopt.evaluate._tokens import compare_tokens
from graphopt.metrics import Documents, Estimate, estimate


@dataclass(frozen=True)
class Kept:
    """Of each window: KL divergence from the model in fp32 after each token, in nats, and whether both hold
    the same token for the likeliest. `size`: bytes that are stored for its weights, `made` says of what."""

    made: str
    size: int
    divergence: tuple[np.ndarray[Any, Any], ...]
    agreement: tuple[np.ndarray[Any, Any], ...]

    def mean(self, over: Kept | None = None) -> Estimate:
        """The mean divergence, or that over another's on the same tokens, windows resampled."""
        baseline = None if over is None else over.divergence
        return estimate(Documents(self.divergence, baseline), relative=over is not None)

    def percentile(self) -> Estimate:
        return estimate(Documents(self.divergence, statistic="p99"))

    def top1(self) -> Estimate:
        """Share of tokens, in percent."""
        return estimate(Documents(tuple(100 * part for part in self.agreement)))

    def save(self, path: Path) -> None:
        lengths = [len(part) for part in self.divergence]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            made=self.made,
            size=self.size,
            lengths=lengths,
            divergence=np.concatenate(self.divergence),
            agreement=np.concatenate(self.agreement).astype(bool),
        )


def load(path: Path) -> Kept | None:
    if not path.is_file():
        return None
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])[:-1]
        parts = [np.split(file[name].astype(np.float64), ends) for name in ("divergence", "agreement")]
        return Kept(str(file["made"]), int(file["size"]), tuple(parts[0]), tuple(parts[1]))


def measured(
    recipe: Recipe, source: Path, work: Path, texts: Sequence[Tokens], reference: Callable[[], Logits]
) -> Kept:
    """What `recipe` makes of `source` beside the `reference`; made and run only where that is not known."""
    path = work / "kept" / f"{recipe.slug}.npz"
    of_text = hashlib.sha256(b"".join(tokens.tobytes() for tokens in texts)).hexdigest()[:12]
    made = f"{identity(recipe, source)} {of_text}"
    known = load(path)
    if known is not None and known.made == made:
        return known
    model = recipe.made(source, work / identity(recipe, source))
    expected = reference()
    with tempfile.TemporaryDirectory() as scratch:
        logits = logits_of(recipe, model, list(texts), Path(scratch))
        found = [compare_tokens([logits(tokens)], expected(tokens), tokens)[0] for tokens in texts]
    size = 0 if recipe.make is None else stored(recipe, model)
    kept = Kept(made, size, tuple(v.divergence for v in found), tuple(v.agreement for v in found))
    kept.save(path)
    return kept
