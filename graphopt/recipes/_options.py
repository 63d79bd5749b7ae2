"""What is asked of a run, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["OnMismatch", "OptimizeOptions", "Verify"]

Verify = Literal["off", "structure", "numeric"]
OnMismatch = Literal["stop", "rollback"]


@dataclass(frozen=True)
class OptimizeOptions:
    """The options of `graphopt.optimize`: plain data, which another process can be sent.

    `target` is the name of a target (default: the first of graphopt's own), `recipe` a name or a TOML file
    (default: what the model's family says, else lossless). `inputs` (.npz) and `dims` ("NAME=1,3") say what
    legal inputs of an .onnx file are. `settings` are "PASS[#N].OPTION=VALUE". `verify` is what happens after
    every pass: nothing, a check of the graph's structure, or also a check of each edit by running what it
    takes away and what it puts there; an edit that fails stops the run, or is rolled back (`on_mismatch`).
    `calibration` is what passes calibrate on: text, a .jsonl file or a folder of documents, an .npz file of
    inputs or a folder of these, or "module:function", which gives texts or inputs (default: text that ships
    with an embedded model, where the model reads text).
    `budget` are bounds that weights are stored by, "kl_mean=0.02", "package_bytes=700MB" (see
    `graphopt.plan`), for a recipe with a pass that plans.
    `stop_after` is "PASS[#N][:EDIT]", where to end. `validate`: compare the package with its source.

    `cpu_fallback` False: nodes that the target's execution provider leaves may not run on the CPU provider.

    `locked` is a graphopt.lock, or the package with it: the package is made again, and the lock decides
    target, recipe, task, `dims`, `verify`, `on_mismatch`, `stop_after`, `validate` and `cpu_fallback`.
    `cache`: continue from what an earlier run of the same left in the cache, if it did, and leave as much for
    the next one.
    `requantize`: quantized weights of the source that no kernel reads as they are may be rounded again.
    `force`: take the place of what is at the destination.
    `max_ram` is a size, "3GB": the run ends with `BadInput` where its processes take more.
    """

    target: str | None = None
    recipe: str | None = None
    task: str = "auto"
    inputs: str | Path | None = None
    dims: Sequence[str] = ()
    calibration: str | Path | None = None
    settings: Sequence[str] = ()
    budget: Sequence[str] = ()
    verify: Verify = "numeric"
    on_mismatch: OnMismatch = "stop"
    stop_after: str | None = None
    validate: bool = True
    cpu_fallback: bool = True
    locked: str | Path | None = None
    cache: bool = True
    trust_remote_code: bool = False
    requantize: bool = False
    force: bool = False
    max_ram: str | None = None

    def __post_init__(self) -> None:
        for name in ("dims", "settings", "budget"):  # frozen, so that equal options have equal hashes
            object.__setattr__(self, name, tuple(getattr(self, name)))
