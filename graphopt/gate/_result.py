"""Result files of gates: read, and described by a schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from graphopt.errors import BadInput
from graphopt.report import GateReport

__all__ = ["read_result", "result_schema"]

_VERSION = GateReport.model_fields["version"].default
_AGAIN = "Give a file that `graphopt gate --json` wrote."


class _Schema(GenerateJsonSchema):
    """A number that is not finite is a string: JSON has no other way."""

    def float_schema(self, schema: core_schema.FloatSchema) -> dict[str, Any]:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def result_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a result file."""
    schema = GateReport.model_json_schema(schema_generator=_Schema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "Result of graphopt gate"}


def read_result(path: Path) -> GateReport:
    """The result in a file that `graphopt gate --json` wrote.

    Raises `BadInput` where there is no such file, where it was cut in the middle, where it is something else,
    and where a later graphopt wrote it.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", hint=_AGAIN) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text, so no result of a gate", hint=_AGAIN) from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        if (text.strip() and error.pos >= len(text.rstrip()) - 1) or error.msg.startswith("Unterminated"):
            raise BadInput(
                f"{path} ends in the middle, after {len(text)} characters", hint="Make the result again."
            ) from error
        raise BadInput(f"{path} is not JSON: {error}", hint=_AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {error}", hint=_AGAIN) from error
    return _checked(path, data)


def _checked(path: Path, data: object) -> GateReport:
    if not isinstance(data, Mapping) or "outcomes" not in data:
        what = (
            "the report of a package" if isinstance(data, Mapping) and "passes" in data else "something else"
        )
        raise BadInput(f"{path} is no result of a gate but {what}", hint=_AGAIN)
    version = data.get("version", _VERSION)
    if isinstance(version, int) and version > _VERSION:
        raise BadInput(
            f"{path} is of version {version}, and this graphopt reads results up to version {_VERSION}",
            hint="Install a later graphopt, or make the result again with this one.",
        )
    try:
        return GateReport.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {where}: {first['msg']}", hint=_AGAIN) from error
