"""Targets whose runtime has an interpreter of its own."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from graphopt.errors import BadInput, EnvironmentProblem
from graphopt.targets._described import DescribedTarget, system
from graphopt.targets._description import OperatorTables
from graphopt.targets._diagnosis import Diagnosis
from graphopt.targets._target import CompileReport, refusal

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.runtime import Decoder, ForeignSession, Interpreter, RuntimeWorker

__all__ = ["ForeignTarget"]


class ForeignTarget(DescribedTarget):
    """A described target whose wheels, `wheels.interpreter`, are in a Python of their own.

    `engine` is the file that a worker there runs (`graphopt.runtime.RuntimeWorker`). It has `facts(device)`,
    what compiled files are for; `build(source, out, settings)`, which compiles the graph in an .onnx file
    and gives these facts; and `load(path, settings)`. A package has the graph, what became of it
    (STEM`suffix`) and what is known of that (STEM.compiled.json, `graphopt.runtime.CompiledFile`); without
    the last the graph is compiled whenever it is loaded.
    """

    engine: ClassVar[Path]
    suffix: ClassVar[str] = ".blob"

    def __init__(self) -> None:
        super().__init__()
        self.libraries = frozenset({"onnxruntime"})

    @property
    def interpreter(self) -> Interpreter:
        """The Python that has the runtime."""
        from graphopt.runtime import Interpreter

        return Interpreter(self.name, self.description.wheels.interpreter)

    def settings(self, model: ir.Model) -> dict[str, Any]:
        """What the engine is told of a graph; by default nothing more than of any other."""
        return self.plain_settings()

    def plain_settings(self) -> dict[str, Any]:
        """What the engine is told: the device, and the provider's options."""
        sizes = {"sizes": dict(self.sizes)} if self.sizes else {}
        return {"device": self.description.device.upper(), "options": dict(self.description.options), **sizes}

    def fingerprint(self) -> dict[str, str]:
        """What the runtime says of itself and of the machine."""
        from graphopt.runtime import default_threads

        if not self.diagnose().ready:
            return {"provider": self.provider, "runtime": "not installed"}
        return {**_facts(self), "threads": str(default_threads())}

    def diagnose(self) -> Diagnosis:
        systems = self.description.wheels.systems
        if systems and system() not in systems:
            return Diagnosis("other system", f"its wheels are for {', '.join(systems)}; this is {system()}")
        if (unfit := self.unfit_wheel()) is not None:
            return unfit
        try:
            self.interpreter.python()
        except EnvironmentProblem as error:
            return Diagnosis("no wheel", error.message, f"graphopt targets doctor --install {self.name}")
        try:
            facts = _facts(self)
        except EnvironmentProblem as error:
            return Diagnosis("wrong wheels", error.message, error.hint)
        return Diagnosis("ready", ", ".join(f"{key} {value}" for key, value in facts.items()))

    def probed(self) -> OperatorTables | None:
        """None: a target overrides it that tries each operator, which takes minutes."""
        return None

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        from graphopt.ir import infer_types, save_model
        from graphopt.runtime import CompiledFile, RuntimeRefused

        infer_types(model)
        self.diagnose().require(self.name)
        if self.fixed_sizes:
            _require_sizes(model, self.name, self.sizes)
        refused = self.capabilities().unsupported(model)
        if refused:
            raise refusal(self.name, refused)
        save_model(model, path)
        made, settings = path.with_name(path.stem + self.suffix), self.settings(model)
        asked = {"source": str(path.absolute()), "out": str(made.absolute()), "settings": settings}
        try:
            runtime = self.worker().ask("call", {"function": "build", "arguments": asked})["result"]
        except RuntimeRefused as error:
            for file in (path, path.with_name(path.name + ".data"), made):
                file.unlink(missing_ok=True)
            raise BadInput(f"{self.provider} cannot compile the graph: {error}") from error
        CompiledFile.of(path, made, runtime, settings).write(path)
        started = time.perf_counter()
        self.session(path)
        load_seconds = time.perf_counter() - started
        files = (path, path.with_name(path.name + ".data"), made)
        size = sum(file.stat().st_size for file in files if file.exists())
        return CompileReport(sum(1 for _ in model.graph.all_nodes()), size, load_seconds)

    def session(self, path: Path, *, threads: int | None = None) -> ForeignSession:
        """Of what was compiled, where that lies beside the graph at `path`, and else of the graph."""
        from graphopt.interface import Interface
        from graphopt.ir import load_model
        from graphopt.runtime import CompiledFile, ForeignSession, default_threads

        model = load_model(path)
        worker, compiled = self.worker(), CompiledFile.beside(path)
        if compiled is None:
            file, settings = path, self.settings(model)
        else:
            file, settings = compiled.checked(path, _facts(self)), compiled.settings
        settings = settings | {"threads": threads or default_threads()}
        return ForeignSession(worker, file, settings, Interface.of(model), self.provider)

    def decoder(
        self,
        folder: Path,
        session: Any,
        *,
        length: int,
        batch: int = 1,
        states: Mapping[str, str] | None = None,
    ) -> Decoder:
        from graphopt.runtime import ForeignDecoder

        return ForeignDecoder.of(folder, session, length=length, batch=batch, states=states)

    def worker(self) -> RuntimeWorker:
        """A process with the runtime in it. `EnvironmentProblem` where there is no Python for it."""
        from graphopt.runtime import RuntimeWorker

        return RuntimeWorker(self.interpreter, self.engine)


def _require_sizes(model: ir.Model, target: str, sizes: Mapping[str, int]) -> None:
    """Raise `BadInput` where a dimension of the inputs has no size."""
    dims = dict.fromkeys(str(dim) for value in model.graph.inputs for dim in value.shape or ())
    free = [dim for dim in dims if not dim.isdigit() and dim not in sizes]
    if free:
        raise BadInput(
            f"target {target!r} compiles graphs whose sizes are known, and nobody said {', '.join(free)}",
            hint=f"Say them: {' '.join(f'--dim {dim}=SIZE' for dim in free)}.",
        )


def _facts(target: ForeignTarget) -> dict[str, str]:
    device = target.description.device.upper()
    return dict(_facts_of(target.interpreter, target.interpreter.python(), target.engine, device))


@functools.cache
def _facts_of(interpreter: Interpreter, python: Path, engine: Path, device: str) -> Mapping[str, str]:
    """What the runtime says; it does not change while this process runs."""
    from graphopt.runtime import RuntimeRefused, RuntimeWorker

    worker = RuntimeWorker(interpreter, engine)
    try:
        asked = {"function": "facts", "arguments": {"device": device}}
        found: Mapping[str, str] = worker.ask("call", asked)["result"]
    except RuntimeRefused as error:
        raise EnvironmentProblem(f"{interpreter.name} does not run here: {error}") from error
    finally:
        worker.close()
    return found
