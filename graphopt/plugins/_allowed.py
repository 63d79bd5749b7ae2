"""Which distributions may bring plugins: all, those that graphopt.toml lists, or graphopt's own alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from graphopt.errors import BadInput
from graphopt.io import read_toml

__all__ = ["BUILT_IN", "CONFIG", "Allowed"]

BUILT_IN = "graphopt"
CONFIG = "graphopt.toml"


class _Plugins(BaseModel):
    model_config = ConfigDict(extra="forbid")
    allow: list[str] | None = None


@dataclass(frozen=True)
class Allowed:
    """`names` are distributions (None: any); `reason` says why others are left out. graphopt always may."""

    names: frozenset[str] | None = None
    reason: str = ""

    @classmethod
    def built_in(cls) -> Allowed:
        """Only what graphopt itself brings."""
        return cls(frozenset(), "plugins are switched off")

    @classmethod
    def configured(cls, folder: Path) -> Allowed:
        """What `[plugins] allow = [...]` of `folder`/graphopt.toml says; `BadInput` where it is wrong."""
        path = folder / CONFIG
        try:
            plugins = _Plugins.model_validate(read_toml(path).get("plugins", {}))
        except FileNotFoundError:
            return cls()
        except IsADirectoryError:
            raise BadInput(f"{path} is a folder: it would be a file of settings") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in ("plugins", *first["loc"]))
            raise BadInput(f"{path}: {where}: {first['msg']}") from error
        if plugins.allow is None:
            return cls()
        return cls(frozenset(map(_normalized, plugins.allow)), f"{CONFIG} does not allow it")

    def __contains__(self, distribution: str) -> bool:
        name = _normalized(distribution)
        return self.names is None or name == BUILT_IN or name in self.names


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
