"""The portable target: what any conforming runtime runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnx_ir as ir

from graphopt.runtime import plain_session
from graphopt.targets import Capabilities, CompileReport, DescribedTarget, Diagnosis, Unsupported


class StandardOperators(Capabilities):
    """Operators that ONNX's own schemas define, at the version that the graph imports."""

    def supports(self, domain: str, op_type: str, version: int, dtypes: Mapping[str, str]) -> bool:
        try:
            schema = onnx.defs.get_schema(op_type, version, domain)
        except onnx.defs.SchemaError:
            return False
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        return all(kind in allowed.get(variable, (kind,)) for variable, kind in dtypes.items())

    def unsupported(self, model: ir.Model) -> Sequence[Unsupported]:
        functions = {(f.domain, f.name) for f in model.functions.values()}
        return [
            Unsupported.of(node, "it is not one of ONNX's operators at the version that the graph imports")
            for node in model.graph.all_nodes()
            if (node.domain, node.op_type) not in functions
            if not self.supports(node.domain, node.op_type, model.opset_imports.get(node.domain, 1), {})
        ]

    def accepts(self, rule: str, *values: int) -> bool:
        """Of weights in blocks, those that there are types for: no operator has them, `lower-blocks` does."""
        return rule == "matmul-nbits" and values[0] in (4, 8)


class PortableTarget(DescribedTarget):
    """Any runtime that conforms to ONNX: standard operators alone.

    A session of it here is onnxruntime's with its optimizations off, so that what is checked is the graph
    as it stands.
    """

    name: ClassVar[str] = "portable"
    file: ClassVar[Path] = Path(__file__).with_suffix(".toml")

    def capabilities(self) -> Capabilities:
        return StandardOperators()

    def diagnose(self) -> Diagnosis:
        return Diagnosis("ready", "packages are made here, and run wherever ONNX does")

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        """As any target, without the domains that no node is of: a runtime may refuse one that it lacks."""
        used = {node.domain for node in model.graph.all_nodes()} | {
            f.domain for f in model.functions.values()
        }
        for domain in set(model.opset_imports) - used - {""}:
            del model.opset_imports[domain]
        return super().compile(model, path)

    def session_choices(self) -> Mapping[str, Sequence[Any]]:
        """Not those that would have the graph rewritten."""
        return {name: values for name, values in super().session_choices().items() if name != "level"}

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        return plain_session(path, threads=threads or 0)
