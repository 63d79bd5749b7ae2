"""Capabilities that are written down: probed once from a runtime, or cited from its makers."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.targets._capabilities import Capabilities, Unsupported
from graphopt.targets._description import Description
from graphopt.targets._registered import RegisteredKernels
from graphopt.targets._registry import node_dtypes

__all__ = ["KernelForm", "OperatorTable"]

_FORM = re.compile(r"(?P<first>\d+)(?:(?P<open>\+)|-(?P<last>\d+))?(?P<types>(?: \w+:[\w(),*]+)*)")
_DEFAULT_DOMAIN = "ai.onnx"


@dataclass(frozen=True)
class KernelForm:
    """Versions of an operator's domain for which there is a kernel, and types by the schema's variables.

    Written "13+ T:float,float16 Tind:int32", "7-12" or "9": from a version on, up to one, or one alone. What
    is not written, such as types, is free.
    """

    first: int
    last: int | None
    types: Mapping[str, frozenset[str]]

    @classmethod
    def read(cls, text: str) -> KernelForm:
        """`BadInput` for a text that is not of this form."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise BadInput(f"{text!r} says no versions of an operator", hint='Write "13+" or "7-12 T:float".')
        first = int(match["first"])
        last = None if match["open"] else int(match["last"] or first)
        types = (part.split(":") for part in match["types"].split())
        return cls(first, last, {name: frozenset(allowed.split(",")) for name, allowed in types})

    def takes(self, version: int, dtypes: Mapping[str, str]) -> bool:
        """Whether the kernel is for `version` and for `dtypes`, ONNX type names by type variable."""
        if version < self.first or (self.last is not None and version > self.last):
            return False
        return all(
            name not in self.types or _element(kind) in self.types[name] for name, kind in dtypes.items()
        )


class OperatorTable(Capabilities):
    """What a target's description says of its kernels."""

    def __init__(self, description: Description) -> None:
        assert description.operators is not None
        self._description, self._operators = description, description.operators

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        return any(form.takes(version, dtypes) for form in self._forms(domain, op_type))

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
        return allowed if isinstance(allowed, bool) else values in allowed

    def computes_in_integers(self, op_type: str) -> bool:
        return op_type in self._description.integers

    def signed_activations(self) -> bool:
        return self._description.signed_activations

    def _forms(self, domain: str, op_type: str) -> Sequence[KernelForm]:
        known = self._operators.domains.get(domain or _DEFAULT_DOMAIN, {})
        return [_read(text) for text in known.get(op_type, ())]

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
        forms = self._forms(node.domain, node.op_type)
        table = f"{self._operators.version}, {self._operators.date}"
        if not forms:
            return f"{self._description.provider} has no kernel for it ({table})"
        dtypes = node_dtypes(node, version)
        if any(form.takes(version, dtypes) for form in forms):
            return None
        if not any(form.takes(version, {}) for form in forms):
            return f"{self._description.provider} has no kernel for it at version {version} ({table})"
        kinds = ", ".join(sorted(set(dtypes.values())))
        return f"{self._description.provider} has no kernel for {kinds} ({table})"


_read = functools.cache(KernelForm.read)


def _element(kind: str) -> str:
    """ "tensor(float)" is written "float"; what is no tensor as it is."""
    match = re.fullmatch(r"tensor\((\w+)\)", kind)
    return match[1] if match else kind
