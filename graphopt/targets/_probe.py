"""The kernels that an installed provider registers, as tables; and what changed since tables were written."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from graphopt.errors import EnvironmentProblem
from graphopt.targets._description import Description, OperatorTables
from graphopt.targets._operator_table import KernelForm, read_forms
from graphopt.targets._registry import NEWEST, since_versions

__all__ = ["changes", "kernel_definitions", "probed", "toml"]

_DOMAINS = {"": "ai.onnx", "com.microsoft": "com.microsoft"}
"""Domains that models use. Others are for what onnxruntime makes of a graph: layouts, its own fusions."""
_COPIES = {"MemcpyFromHost", "MemcpyToHost"}
"""What onnxruntime puts between providers; those that compile have kernels for nothing else."""


def kernel_definitions(said: Description) -> Sequence[Any]:
    """onnxruntime's `KernelDef`s of the provider: a plugin is registered first.

    `EnvironmentProblem` where onnxruntime cannot start the provider to ask it.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    from graphopt.runtime import register_provider

    try:
        if said.wheels.module is not None:
            register_provider(said.wheels.module)
            return list(state.get_registered_ep_kernel_defs(said.provider))
        return [kernel for kernel in state.get_all_opkernel_def() if kernel.provider == said.provider]
    except RuntimeError as error:  # so it raises where a device or a library is missing
        raise EnvironmentProblem(
            f"onnxruntime does not tell the kernels of {said.provider}: {' '.join(str(error).split())}",
            hint=f"It needs {said.needs_device}." if said.needs_device else None,
        ) from error


def probed(said: Description, versions: Mapping[str, str]) -> OperatorTables | None:
    """What the installed provider has kernels for; None where it tells of none, as those that compile.

    `versions` are of the distributions that were asked. Names of types, rules and what is refused are those
    of the tables that are written: no registry tells them.
    """
    found: dict[tuple[str, str], list[KernelForm]] = defaultdict(list)
    for kernel in kernel_definitions(said):
        if kernel.domain in _DOMAINS and kernel.op_name not in _COPIES:
            found[kernel.domain, kernel.op_name].append(_form(kernel))
    if not found:
        return None
    written = said.operators
    domains: dict[str, dict[str, tuple[str, ...]]] = {}
    for (domain, op_type), forms in sorted(found.items(), key=lambda item: (item[0][0], item[0][1].lower())):
        merged = _merged(forms, since_versions(domain, op_type))
        domains.setdefault(_DOMAINS[domain], {})[op_type] = tuple(map(str, merged))
    asked = "get_registered_ep_kernel_defs" if said.wheels.module else "get_all_opkernel_def"
    return OperatorTables(
        source=f"probed: {asked} of onnxruntime",
        version=", ".join(f"{name} {version}" for name, version in versions.items()),
        date=datetime.date.today(),
        types=written.types if written is not None else {},
        rules=written.rules if written is not None else {},
        refused=written.refused if written is not None else {},
        domains=domains,
    )


def changes(old: OperatorTables | None, new: OperatorTables) -> list[str]:
    """Forms that came ("+ ai.onnx Add 14 T:float") and went ("- ...") between two tables, sorted."""
    before, after = _lines(old), _lines(new)
    signed = [*(("-", line) for line in before - after), *(("+", line) for line in after - before)]
    return [f"{sign} {line}" for sign, line in sorted(signed, key=lambda pair: (pair[1], pair[0]))]


def toml(tables: OperatorTables) -> str:
    """The `[operators]` part of a target's file, the names of types used where a set of types has one."""
    sets = {frozenset(types): name for name, types in tables.types.items()}
    lines = [
        "[operators]",
        f"source = {_text(tables.source)}",
        f"version = {_text(tables.version)}",
        f"date = {tables.date}",
    ]
    if tables.types:
        lines += ["", "[operators.types]"]
        lines += [f"{name} = [{', '.join(map(_text, types))}]" for name, types in tables.types.items()]
    if tables.rules:
        lines += ["", "[operators.rules]"]
        lines += [f"{name} = {_rule(rule)}" for name, rule in tables.rules.items()]
    for domain, table in tables.refused.items():
        lines += ["", f"[operators.refused.{_text(domain)}]"]
        lines += [f"{op_type} = [{', '.join(map(_text, names))}]" for op_type, names in table.items()]
    for domain, table in tables.domains.items():
        lines += ["", f"[operators.domains.{_text(domain)}]"]
        for op_type, texts in table.items():
            forms = (_short(KernelForm.read(text, tables.types), sets) for text in texts)
            lines.append(f"{op_type} = [{', '.join(map(_text, forms))}]")
    return "\n".join(lines) + "\n"


def _form(kernel: Any) -> KernelForm:
    """One without an end is for the form that it was written for alone."""
    first, last = kernel.version_range
    types = {name: frozenset(map(_element, allowed)) for name, allowed in kernel.type_constraints.items()}
    return KernelForm(first, first if last == NEWEST else last, types)


def _element(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")") if kind.startswith("tensor(") else kind


def _merged(forms: Iterable[KernelForm], sinces: Sequence[int]) -> list[KernelForm]:
    """As few forms as say the same: types are put together, then versions between which no form came."""
    by_versions: dict[tuple[int, int | None], list[dict[str, frozenset[str]]]] = defaultdict(list)
    for form in {str(form): form for form in sorted(forms, key=str)}.values():
        by_versions[form.first, form.last].append(dict(form.types))
    found = [
        KernelForm(first, last, types)
        for (first, last), several in by_versions.items()
        for types in _united(several)
    ]
    by_types: dict[str, list[KernelForm]] = defaultdict(list)
    for form in found:
        by_types[str(KernelForm(0, 0, form.types))].append(form)
    result = []
    for same in by_types.values():
        same.sort(key=lambda form: form.first)
        kept = same[0]
        for _, form in pairwise(same):
            if kept.last is not None and not any(kept.last < since < form.first for since in sinces):
                kept = KernelForm(kept.first, form.last, kept.types)
            else:
                result.append(kept)
                kept = form
        result.append(kept)
    return sorted(result, key=lambda form: (-form.first, str(form)))


def _united(several: list[dict[str, frozenset[str]]]) -> list[dict[str, frozenset[str]]]:
    """Constraints that differ in one variable become one, until none do."""
    done = list(several)
    while True:
        pair = next(
            (
                (one, other, names[0])
                for i, one in enumerate(done)
                for other in done[i + 1 :]
                if one.keys() == other.keys() and len(names := [n for n in one if one[n] != other[n]]) == 1
            ),
            None,
        )
        if pair is None:
            return done
        one, other, name = pair
        done.remove(one)
        done.remove(other)
        done.append(one | {name: one[name] | other[name]})


def _lines(tables: OperatorTables | None) -> set[str]:
    if tables is None:
        return set()
    return {
        f"{domain or _DOMAINS['']} {op_type} {form}"
        for (domain, op_type), forms in read_forms(tables).items()
        for form in _merged(forms, since_versions(domain, op_type))
    }


def _short(form: KernelForm, names: Mapping[frozenset[str], str]) -> str:
    """The form as text, sets of types by their names, the largest first."""
    short: dict[str, frozenset[str]] = {}
    for variable, types in form.types.items():
        words, left = set[str](), set(types)
        for named, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
            if named <= left:
                words.add(name)
                left -= named
        short[variable] = frozenset(words | left)
    return str(KernelForm(form.first, form.last, short))


def _rule(rule: Any) -> str:
    if isinstance(rule, bool):
        return str(rule).lower()
    if isinstance(rule, tuple):
        return str([list(values) for values in rule])
    said = rule.model_dump(exclude_defaults=True)
    return f"{{ {', '.join(f'{name} = {value}' for name, value in said.items())} }}"


def _text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
