"""onnxruntime-web, which runs in pages and in node: onnxruntime's CPU provider, compiled to WebAssembly."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import onnx
import onnx_ir as ir

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.families import PackageContext
from graphopt.ir import save_model
from graphopt.pipeline import weight_bytes
from graphopt.targets import CompileReport, DescribedTarget, Diagnosis, OperatorTables

from ._transformers_js import DATA, dtype_of, file_of, name_batch, not_fed, write_settings

_MEMORY = 4 << 30
"""Bytes that a module of WebAssembly of 32 bits can address, which onnxruntime-web's is."""

_NOT_IN_EVERY_BUILD = {"GatherBlockQuantized"}
"""Kernels that the builds with WebGPU (asyncify, jspi) have not for the processor: onnxruntime-web 1.30.0."""


class WebTarget(DescribedTarget):
    """onnxruntime-web in a page and in node, in the folders that transformers.js loads.

    A graph lies in `onnx/` and is called by its precision, its weights beside it in files of less than 2 GB;
    config.json says so. What is opened here runs on onnxruntime's CPU provider, whose kernels onnxruntime-web
    has too, compiled for other instructions.
    """

    name: ClassVar[str] = "web"
    file: ClassVar[Path] = Path(__file__).with_suffix(".toml")

    def fingerprint(self) -> dict[str, str]:
        operators = self.description.operators
        return super().fingerprint() | {"kernels": operators.version if operators is not None else ""}

    def diagnose(self) -> Diagnosis:
        return Diagnosis("ready", "packages are made here, and checked on the CPU provider")

    def probed(self) -> OperatorTables | None:
        raise EnvironmentProblem(
            "onnxruntime-web runs in no process of Python",
            hint="Ask it in node, from graphopt's source: make build/web/.installed && "
            "python scripts/web/kernels.py targets/web.toml",
        )

    def place(self, role: str, model: ir.Model) -> str:
        return file_of(role, dtype_of(model))

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        self.require_kernels(model)
        size = weight_bytes(model)
        if size > _MEMORY:
            raise BadInput(
                f"target {self.name!r} cannot hold weights of {size:,} bytes: WebAssembly has {_MEMORY:,}",
                hint="Store them in fewer bits: --recipe int4.",
            )
        name_batch(model)
        path.parent.mkdir(exist_ok=True)
        save_model(model, path, DATA)
        started = time.perf_counter()
        self.session(path)
        seconds = time.perf_counter() - started
        size = sum(file.stat().st_size for file in (path, *DATA.existing(path)))
        return CompileReport(sum(1 for _ in model.graph.all_nodes()), size, seconds)

    def package_files(
        self, source: Path | None, staging: Path, parts: Mapping[str, PackageContext]
    ) -> list[str]:
        notes = []
        if not write_settings(source, staging, parts):
            notes.append("transformers.js cannot load this package: its source has no config.json")
        names = [spec.name for part in parts.values() for spec in part.interface.inputs]
        if unknown := ", ".join(not_fed(names)):
            notes.append(f"transformers.js cannot run this package: it has nothing for the inputs {unknown}")
        operators = {node.op_type for part in parts.values() for node in _graph(staging / part.file).node}
        if missing := sorted(_NOT_IN_EVERY_BUILD & operators):
            notes.append(
                f"the onnxruntime-web that transformers.js loads by default has no {missing[0]} for the "
                "processor: give it the build without WebGPU (env.backends.onnx.wasm.wasmPaths), or keep "
                "tables in floats (--set quantize-weights.embedding=keep)"
            )
        return notes


def _graph(path: Path) -> onnx.GraphProto:
    return onnx.load(path, load_external_data=False).graph
