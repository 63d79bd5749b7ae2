"""graphopt.json: what a package holds and under which conditions it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from graphopt.errors import BadInput
from graphopt.families import Assumption
from graphopt.interface import Interface, TensorSpec
from graphopt.io import read_json
from graphopt.runtime import SessionSettings

__all__ = [
    "MANIFEST",
    "VARIANTS",
    "CalibratedOn",
    "ClosingVerdict",
    "GraphFile",
    "Manifest",
    "MeasuredSetting",
    "TargetInfo",
    "TunedSession",
    "read_manifest",
]

MANIFEST = "graphopt.json"
VARIANTS = "targets"
"""The folder of the packages for other targets."""
VERSION = 1  # of the file: rises where an older graphopt would misread it

ClosingVerdict = Literal["passed", "failed", "inconclusive", "not run"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class GraphFile(_Frozen):
    """One graph of the package and its interface. Paths are relative to the package.

    `states` are names of inputs, each with that of the output that the next call takes there, as the family
    says (`graphopt.families.Part.states`); None where nobody did, as of an .onnx file.
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: dict[str, str] | None = None

    def past(self) -> tuple[TensorSpec, ...]:
        """The inputs that take what the call before left, by their names where nobody said."""
        from graphopt.runtime import states_by_name

        named = states_by_name(spec.name for spec in self.inputs)
        states = named if self.states is None else self.states
        return tuple(spec for spec in self.inputs if spec.name in states)

    @property
    def interface(self) -> Interface:
        """What the graph takes and gives."""
        return Interface(self.inputs, self.outputs)


class TargetInfo(_Frozen):
    """The target the package was compiled for, and what it found on the machine it was compiled on."""

    name: str
    fingerprint: dict[str, str] = Field(default_factory=dict)


class CalibratedOn(_Frozen):
    """What a package was calibrated on: what people call it, and the digest of the text or arrays.

    `file` is where it was, as `optimize` was told; empty for text of graphopt's own.
    """

    name: str
    content: str
    file: str = ""


class MeasuredSetting(_Frozen):
    """A setting that `graphopt tune` tried: how many times as fast as the target's own, in so many blocks.

    `out`: why it was given up before the last round; empty for those that stayed in to it.
    """

    settings: SessionSettings
    speedup: float
    blocks: int
    out: str = ""


class TunedSession(_Frozen):
    """How sessions of the package are best set up on one kind of machine, and how that is known.

    `settings` hold where the target's fingerprint is `fingerprint`, and nowhere else; they are empty where
    nothing was shown to be faster than what the target says by itself. `speedup` is theirs over that, with
    its 95 % interval from `low` to `high`, in `blocks` blocks of turns after the choice was made; `control`
    is the same of the settings over themselves. `measured` says what was timed, `tried` what else was.
    """

    settings: SessionSettings = SessionSettings()
    fingerprint: dict[str, str]
    measured: str = ""
    blocks: int = 0
    speedup: float = 1.0
    low: float = 1.0
    high: float = 1.0
    control: float = 1.0
    tried: tuple[MeasuredSetting, ...] = ()


class Manifest(_Frozen):
    """The whole of graphopt.json.

    `graphs` are by role: "model", or "encoder" and "decoder". `adapters` turn feeds for
    `source_interface` into feeds for the package's graph, in order. `assumptions` are conditions the package
    is only right under, in words by key; `conditions` are those of them that rule calls out, as data.
    `closing_check` says what the comparison with the source came to. `sizes` are those that dimensions of the
    source's inputs may have, where no family says what is legal: as the user said, or as what was given had.
    `max_batch_tokens`: where rows of a
    batch may be run apart, cut to their own lengths, how many tokens a call then best has (0: any number).
    `calibration`: what passes calibrated on, if any did. `variants`: other targets that there are packages
    for in the folder, at targets/NAME. `sessions`: what `graphopt tune` found, by machine. `cpu_fallback`:
    whether nodes may run on onnxruntime's CPU provider that the target's leaves.
    """

    version: Literal[1] = 1
    graphopt: str
    source: str
    task: str
    family: str | None
    recipe: str
    lossless: bool
    target: TargetInfo
    graphs: dict[str, GraphFile]
    source_interface: Interface = Interface()
    adapters: tuple[dict[str, Any], ...] = ()
    assumptions: dict[str, str] = Field(default_factory=dict)
    conditions: tuple[Assumption, ...] = ()
    closing_check: ClosingVerdict = "not run"
    sizes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    calibration: CalibratedOn | None = None
    variants: tuple[str, ...] = ()
    sessions: tuple[TunedSession, ...] = ()
    cpu_fallback: bool = True
    max_batch_tokens: int | None = Field(
        default=None, validation_alias=AliasChoices("max_batch_tokens", "tokens_a_call")
    )

    def write(self, folder: Path) -> None:
        """Write it as `folder`/graphopt.json."""
        text = self.model_dump_json(indent=2, by_alias=True) + "\n"
        partial = folder / f"{MANIFEST}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the package at `folder`. `BadInput` where there is none or it cannot be understood."""
    path = folder / MANIFEST
    try:
        data = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_a_package(folder) from None
    if isinstance(data.get("version"), int) and data["version"] > VERSION:
        raise BadInput(
            f"{path} has version {data['version']}; this graphopt reads version {VERSION}",
            hint="Upgrade graphopt, or make the package again.",
        )
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {where}: {first['msg']}", hint="Make the package again.") from error


def _not_a_package(folder: Path) -> BadInput:
    if not folder.exists():
        return BadInput(f"package {folder} does not exist")
    if not folder.is_dir():
        return BadInput(f"{folder} is a file, not a package folder")
    return BadInput(
        f"{folder} is not a graphopt package: it has no {MANIFEST}",
        hint="`graphopt optimize SOURCE -o OUT` makes one.",
    )
