"""What a run has so far, as an entry: after the export, and after a step."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.cache._entry import Damaged, Header, state_of
from graphopt.cache._model import ARRAYS, GRAPH, ModelWriter, read_model
from graphopt.cache._plain import CannotStore, decoded, encoded
from graphopt.errors import GraphoptError
from graphopt.export import Exported, Source
from graphopt.families import Assumption
from graphopt.interface import Interface, TensorSpec
from graphopt.pipeline import EditRecord, EditVerdict, NearMiss, PassRecord
from graphopt.plugins import adapter_from_json, adapter_to_json, registry

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.interface import Adapter
    from graphopt.pipeline import Context, RunResult

__all__ = ["Passed", "Place", "read_exported", "read_passed", "write_exported", "write_passed"]

STATE = "state.json"


@dataclass(frozen=True)
class Place:
    """Where an entry is written or read, and `spill`, where the run that does so keeps its scratch files."""

    folder: Path
    spill: Path


@dataclass(frozen=True)
class Passed:
    """A model after some steps, and what is known of it besides."""

    model: ir.Model
    records: list[PassRecord]
    adapters: list[Adapter]
    notes: list[str]
    assumptions: dict[str, Assumption]
    decisions: dict[str, Any]
    spent: dict[str, int]
    verdicts: dict[str, EditVerdict]


def write_exported(header: Header, place: Place, exported: Exported, others: Sequence[str]) -> None:
    """Write an entry; `others` are the source's other graphs. Raises `CannotStore`, or `OSError`."""
    state = {
        "interface": asdict(exported.interface),
        "task": exported.task,
        "family": exported.family.name if exported.family else None,
        "config": exported.config,
        "notes": exported.notes,
        "role": exported.role,
        "others": list(others),
    }
    _write(header, place, exported.model, state, {})


def read_exported(header: Header, place: Place, source: Source) -> tuple[Exported, list[str]]:
    """The graph of `source` that an entry holds, and the roles of the others. Raises `Damaged`."""
    model, state = _read(header, place)
    family = None
    if state["family"] is not None:
        known = registry.families()
        if state["family"] not in known:
            raise Damaged(f"there is no family {state['family']!r}")
        family = known[state["family"]]()
    exported = Exported(
        model,
        Interface(*(_specs(state["interface"][side]) for side in ("inputs", "outputs"))),
        state["task"],
        family,
        state["config"],
        None if family is None else source.path,
        state["notes"],
        state["role"],
    )
    return exported, state["others"]


def write_passed(
    header: Header,
    place: Place,
    context: Context,
    result: RunResult,
    verdicts: Mapping[str, EditVerdict],
    copies: dict[Path, tuple[Path, int]],
) -> None:
    """Write an entry. `copies` are earlier ones of scratch files; new ones are added.

    Raises `CannotStore`, or `OSError`.
    """
    if not all(_has_form(adapter) for adapter in result.adapters):
        raise CannotStore("an adapter of a plugin")
    state = {
        "records": [_record_form(record) for record in result.records],
        "adapters": [adapter_to_json(adapter) for adapter in result.adapters],
        "notes": context.notes,
        "assumptions": [asdict(assumption) for assumption in context.assumptions.values()],
        "decisions": context.decisions,
        "spent": context.spent,
        "verdicts": {key: list(vars(verdict).values()) for key, verdict in verdicts.items()},
    }
    _write(header, place, context.model, state, copies)


def read_passed(header: Header, place: Place) -> Passed:
    """The state that an entry holds. Raises `Damaged`."""
    model, state = _read(header, place)
    return Passed(
        model,
        [_record(form) for form in state["records"]],
        [adapter_from_json(form) for form in state["adapters"]],
        state["notes"],
        {form["key"]: Assumption(**form) for form in state["assumptions"]},
        state["decisions"],
        state["spent"],
        {key: EditVerdict(*values) for key, values in state["verdicts"].items()},
    )


def new_header(key: str, source: str, step: str) -> Header:
    """The header of an entry that is about to be written."""
    version = importlib.metadata.version("graphopt")
    return Header(key=key, source=source, step=step, graphopt=version, created=time.time())


def _write(
    header: Header,
    place: Place,
    model: ir.Model,
    state: Mapping[str, Any],
    copies: dict[Path, tuple[Path, int]],
) -> None:
    form = encoded(dict(state))
    writer = ModelWriter(place.folder, place.spill)
    form = {"graph": writer.write(model), "rest": form}
    (place.folder / STATE).write_text(json.dumps(form, separators=(",", ":")), encoding="utf-8")
    for path, (name, size) in writer.scratch.items():
        _link(path, place.folder / name, size, copies)
        header.scratch[name] = size
    for name in (GRAPH, ARRAYS, STATE):
        with (place.folder / name).open("rb") as stream:
            header.files[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    for path, stamp in writer.sources.items():
        header.sources[str(path)] = state_of(path)
        if stamp and stamp != header.sources[str(path)][1]:
            raise CannotStore(f"{path}, which has changed meanwhile")
    header.write(place.folder)


def _read(header: Header, place: Place) -> tuple[ir.Model, dict[str, Any]]:
    contents = header.contents(place.folder)
    form = json.loads(contents[STATE])
    linked: dict[str, Path] = {}
    try:
        for name, size in header.scratch.items():
            linked[name] = place.spill / f"cached-{header.key[:8]}-{name}"
            _link(place.folder / name, linked[name], size, {})
        model = read_model(place.folder, contents[GRAPH], form["graph"], linked.__getitem__)
    except FileNotFoundError as error:
        raise Damaged(str(error)) from error
    return model, decoded(form["rest"])


def _link(path: Path, new: Path, size: int, copies: dict[Path, tuple[Path, int]]) -> None:
    """Make `new` a link to `path`; where that cannot be, to an earlier copy of `size` bytes, or a copy."""
    earlier, length = copies.get(path, (path, size))
    for known in (path, earlier):
        try:
            if known == path or length >= size:
                os.link(known, new)
                return
        except FileNotFoundError:
            if known == path:
                raise
        except OSError:
            continue
    shutil.copyfile(path, new)
    copies[path] = (new, size)


def _specs(forms: tuple[dict[str, Any], ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(**form) for form in forms)


def _has_form(adapter: Adapter) -> bool:
    try:
        return adapter_from_json(adapter_to_json(adapter)) == adapter
    except GraphoptError:
        return False


def _record_form(record: PassRecord) -> dict[str, Any]:
    lists = {
        "edits": [asdict(e) for e in record.edits],
        "near_misses": [asdict(m) for m in record.near_misses],
    }
    return vars(record) | lists


def _record(form: dict[str, Any]) -> PassRecord:
    lists = {
        "edits": [EditRecord(**edit) for edit in form["edits"]],
        "near_misses": [NearMiss(**miss) for miss in form["near_misses"]],
    }
    return PassRecord(**(form | lists | {"cached": True}))
