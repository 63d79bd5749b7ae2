"""Capabilities that are written down: probed once from a runtime, or cited from its makers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.targets._capabilities import Capabilities, Unsupported
from graphopt.targets._description import Description, OperatorTables, Sizes
from graphopt.targets._registered import RegisteredKernels
from graphopt.targets._registry import node_dtypes, since_version, used_parameters

__all__ = ["KernelForm", "OperatorTable", "read_forms"]

_FORM = re.compile(r"(?P<first>\d+)(?:(?P<open>\+)|-(?P<last>\d+))?(?P<types>(?: \w+:[\w(),*]+)*)")
_DEFAULT_DOMAIN = "ai.onnx"


@dataclass(frozen=True)
class KernelForm:
    """Forms of an operator for which there is a kernel, and types by the schema's variables.

    An operator has a new form with every version of its domain that changes its schema. "13 T:float" is the
    form that came with version 13, "6-13" are those that came with 6 to 13, "13+" is whatever is in force
    from version 13 on. onnxruntime's kernels are for forms: one registered for 13 without an end is not tried
    for a node whose form came with 21. What is not written, such as types, is free.
    """

    first: int
    last: int | None
    types: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, text: str, sets: Mapping[str, Sequence[str]] = MappingProxyType({})) -> KernelForm:
        """`BadInput` for a text that is not of this form. `sets` are names for several element types."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise BadInput(f"{text!r} says no versions of an operator", hint='Write "13+" or "7-12 T:float".')
        first = int(match["first"])
        last = None if match["open"] else int(match["last"] or first)
        types: dict[str, frozenset[str]] = {}
        for part in match["types"].split():
            name, allowed = part.split(":")
            types[name] = frozenset(t for word in allowed.split(",") for t in sets.get(word, (word,)))
        return cls(first, last, types)

    def __str__(self) -> str:
        versions = {None: f"{self.first}+", self.first: f"{self.first}"}
        types = (f" {name}:{','.join(sorted(allowed))}" for name, allowed in sorted(self.types.items()))
        return versions.get(self.last, f"{self.first}-{self.last}") + "".join(types)

    def is_of(self, version: int, since: int) -> bool:
        """Whether it is of the form in force at `version` of the domain, which came with `since`."""
        return self.first <= version if self.last is None else self.first <= since <= self.last

    def takes(self, dtypes: Mapping[str, str]) -> bool:
        """Whether it is for `dtypes`, ONNX type names by type variable."""
        return all(
            name not in self.types or _element(kind) in self.types[name] for name, kind in dtypes.items()
        )


class OperatorTable(Capabilities):
    """What a target's description says of its kernels."""

    def __init__(self, description: Description) -> None:
        assert description.operators is not None
        self._description, self._operators = description, description.operators
        self._forms = read_forms(description.operators)

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        return any(form.takes(dtypes) for form in self._of(domain, op_type, version))

    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        """Nodes outside of the table; with the CPU provider beside it, those that it cannot run either."""
        if self._description.fallback:
            return RegisteredKernels().unsupported(model)
        return self._outside(model)

    def left_to_others(self, model: ir.Model) -> Sequence[Unsupported]:
        return self._outside(model) if self._description.fallback else ()

    def accepts(self, rule: str, *values: int) -> bool:
        """What the table says of the rule; it is not kept to where nothing is said."""
        allowed = self._operators.rules.get(rule, False)
        if isinstance(allowed, Sizes):
            return allowed.take(values)
        return allowed if isinstance(allowed, bool) else values in allowed

    def computes_in_integers(self, op_type: str) -> bool:
        return op_type in self._description.integers

    def signed_activations(self) -> bool:
        return self._description.signed_activations

    def packed_projections(self) -> bool:
        return self._description.packed_projections

    def static_scales(self) -> bool:
        return self._description.static_scales

    def _of(self, domain: str, op_type: str, version: int) -> list[KernelForm]:
        since = since_version(domain, op_type, version)
        return [form for form in self._forms.get((domain, op_type), ()) if form.is_of(version, since)]

    def _outside(self, model: ir.Model) -> list[Unsupported]:
        functions = {(f.domain, f.name) for f in model.functions.values()}
        return [
            Unsupported.of(node, reason)
            for node in model.graph.all_nodes()
            if (node.domain, node.op_type) not in functions
            if (node.domain, node.op_type) != ("", "Constant")  # becomes an initializer
            if (reason := self._reason(node, model.opset_imports.get(node.domain, 1)))
        ]

    def _reason(self, node: ir.Node, version: int) -> str | None:
        table = f"{self._operators.version}, {self._operators.date}"
        if (node.domain, node.op_type) not in self._forms:
            return f"{self._description.provider} has no kernel for it ({table})"
        forms, dtypes = self._of(node.domain, node.op_type, version), node_dtypes(node, version)
        if any(form.takes(dtypes) for form in forms):
            refused = self._refused(node, version)
            return f"{self._description.provider}'s kernel takes no {refused} ({table})" if refused else None
        if not forms:
            return f"{self._description.provider} has no kernel for it at version {version} ({table})"
        kinds = ", ".join(sorted(set(dtypes.values())))
        return f"{self._description.provider} has no kernel for {kinds} ({table})"

    def _refused(self, node: ir.Node, version: int) -> str:
        """What of the node no kernel takes, as text; empty where that is nothing."""
        refused = self._operators.refused.get(node.domain or _DEFAULT_DOMAIN, {}).get(node.op_type, ())
        there = used_parameters(node, version) if refused else ()
        return " and ".join(name for name in refused if name in there)


def read_forms(operators: OperatorTables) -> dict[tuple[str, str], list[KernelForm]]:
    """Kernels by domain, as graphs name it, and operator."""
    return {
        ("" if domain == _DEFAULT_DOMAIN else domain, op_type): [
            KernelForm.read(text, operators.types) for text in texts
        ]
        for domain, table in operators.domains.items()
        for op_type, texts in table.items()
    }


def _element(kind: str) -> str:
    """ "tensor(float)" is written "float"; what is no tensor as it is."""
    match = re.fullmatch(r"tensor\((\w+)\)", kind)
    return match[1] if match else kind
