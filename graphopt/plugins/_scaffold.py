"""New plugin distributions, from templates."""

from __future__ import annotations

import importlib.metadata
import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jinja2

from graphopt.errors import BadInput
from graphopt.plugins import registry

__all__ = ["Kind", "scaffold"]

Kind = Literal["passes", "targets", "models"]

_COMMON = {
    "pyproject.toml": "common/pyproject.toml.jinja",
    ".gitignore": "common/gitignore.jinja",
    ".github/workflows/test.yml": "common/test.yml.jinja",
}
# Where each file goes, and the template it is made from.
_FILES: Mapping[Kind, Mapping[str, str]] = {
    "passes": {
        "README.md": "passes/README.md.jinja",
        "src/{module}/__init__.py": "passes/init.py.jinja",
        "src/{module}/{stem}.py": "passes/pass.py.jinja",
        "src/{module}/examples/{name}/refused.txt": "passes/refused.txt.jinja",
        "src/{module}/examples/{name}/rewritten.txt": "passes/rewritten.txt.jinja",
        "tests/test_{stem}.py": "passes/test.py.jinja",
    },
    "targets": {
        "README.md": "targets/README.md.jinja",
        "src/{module}/__init__.py": "targets/init.py.jinja",
        "src/{module}/{stem}.py": "targets/target.py.jinja",
        "tests/test_{stem}.py": "targets/test.py.jinja",
    },
    "models": {
        "README.md": "models/README.md.jinja",
        "src/{module}/__init__.py": "models/init.py.jinja",
        "src/{module}/{stem}.py": "models/family.py.jinja",
        "tests/test_{stem}.py": "models/test.py.jinja",
    },
}
_NOUNS: Mapping[Kind, str] = {"passes": "pass", "targets": "target", "models": "model family"}


def scaffold(kind: Kind, name: str, folder: Path | None = None) -> tuple[Path, list[Path]]:
    """Write a distribution that brings the pass, target or model family `name`; its folder and its files.

    `folder` is ./graphopt-`name` by default, and may be there if it is empty. Raises `BadInput` for a folder
    that is not, and for a name that is no lower-case word (or several with hyphens), that Python or graphopt
    needs, or that an installed plugin has.
    """
    names = _names(kind, name)
    folder = folder or Path(names["distribution"])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists and is not an empty folder", hint="Choose another one with -o.")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("graphopt", "plugins/templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    written = []
    for place, template in {**_COMMON, **_FILES[kind]}.items():
        path = folder / place.format_map(names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(template).render(names), encoding="utf-8")
        written.append(path)
    return folder, sorted(written)


def _names(kind: Kind, name: str) -> dict[str, str]:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise BadInput(
            f"{name!r} cannot be the name of a plugin", hint="Use lower-case words with hyphens: fuse-gelu."
        )
    stem, cls = name.replace("-", "_"), "".join(word.capitalize() for word in name.split("-"))
    if keyword.iskeyword(stem) or name in ("passes", "targets", "models") or cls in _taken(kind):
        raise BadInput(f"the name {name!r} is taken: it means something to Python or graphopt")
    known = {"passes": registry.passes, "targets": registry.targets, "models": registry.families}[kind]()
    if name in known:
        raise BadInput(f"{name!r} is installed already", hint=f"`graphopt {kind} list` shows what is.")
    return {
        "kind": kind,
        "name": name,
        "stem": stem,
        "cls": cls,
        "module": f"graphopt_{stem}",
        "distribution": f"graphopt-{name}",
        "summary": f"The {_NOUNS[kind]} {name}, for graphopt.",
        "graphopt": importlib.metadata.version("graphopt"),
    }


def _taken(kind: Kind) -> set[str]:
    """Classes that the template imports."""
    from graphopt import families, pipeline, targets

    module = {"passes": pipeline, "targets": targets, "models": families}[kind]
    return {*module.__all__, *keyword.kwlist, "Pack", "Path", "Any"}
