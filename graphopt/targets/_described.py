"""Targets that are data: an execution provider of onnxruntime and what a TOML file says of it."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from packaging.requirements import Requirement

from graphopt.errors import EnvironmentProblem
from graphopt.targets._capabilities import Capabilities
from graphopt.targets._description import Description, OperatorTables
from graphopt.targets._diagnosis import Diagnosis, of_provider
from graphopt.targets._target import CompileReport, Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from graphopt.recipes import Recipe, Step

__all__ = ["DescribedTarget", "described", "system"]


class DescribedTarget(Target):
    """A target that the TOML file `file` describes: see `Description`.

    A subclass overrides what data cannot say: `capabilities` where a runtime can be asked, `compile` where a
    package is more than .onnx files.
    """

    file: ClassVar[Path]

    def __init__(self) -> None:
        self.description = description = _read(self.file)
        self.provider = description.provider
        self.recipe = description.recipe
        self.fixed_sizes = description.fixed_sizes
        self.libraries = frozenset({"onnxruntime", *map(_distribution, description.wheels.needs)})

    @classmethod
    def title(cls) -> str:
        return _read(cls.file).title

    def capabilities(self) -> Capabilities:
        return self._table

    @functools.cached_property
    def _table(self) -> Capabilities:
        from graphopt.targets._operator_table import OperatorTable

        return OperatorTable(self.description)

    def lowering(self, recipe: Recipe) -> tuple[Step, ...]:
        from graphopt.recipes import Step

        options = self.description.lowering_options
        return tuple(Step(name, dict(options.get(name, {}))) for name in self.description.lowering)

    def fingerprint(self) -> dict[str, str]:
        """The provider, its options, and the wheels that are installed."""
        said = self.description
        wheels = {name: _version(name) or "not installed" for name in sorted(self.libraries)}
        return {
            "provider": said.provider,
            **{f"option {name}": value for name, value in said.options.items()},
            "system": system(),
            **wheels,
        }

    def facts(self) -> dict[str, str]:
        said = self.description
        facts = {"last run": said.last_run, "recipe": said.recipe or "what the family says"}
        if said.operators is not None:
            facts["kernels"] = f"{said.operators.source}; {said.operators.version}, {said.operators.date}"
        return facts

    def diagnose(self) -> Diagnosis:
        return self._wheels() or self._provider()

    def probed(self) -> OperatorTables | None:
        """What the installed provider tells of its kernels now; None where it tells nothing.

        Nothing is asked of the CPU's provider: it would tell of the onnxruntime in this process.

        `EnvironmentProblem` where its wheels are not installed as they have to be, or tell nothing without
        their device.
        """
        from graphopt.runtime import CPU
        from graphopt.targets._probe import probed

        if self.description.provider == CPU:
            return None
        if (wheels := self._wheels()) is not None:
            wheels.require(self.name)
        versions = {name: found for name in sorted(self.libraries) if (found := _version(name))}
        return probed(self.description, versions)

    def write(self, tables: OperatorTables) -> None:
        """Put `tables` in the place of the `[operators]` of the target's file, which are its last part."""
        from graphopt.targets._probe import toml

        kept = self.file.read_text(encoding="utf-8").partition("[operators]\n")[0]
        self.file.write_text(kept + toml(tables), encoding="utf-8")
        _read.cache_clear()

    def compile(self, model: ir.Model, path: Path) -> CompileReport:
        self.diagnose().require(self.name)
        return super().compile(model, path)

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        """As `Target.session`; `EnvironmentProblem` where the session came to be without the provider."""
        from graphopt.runtime import CPU, open_on_devices, open_session, provider_options, session_options

        said = self.description
        chosen = provider_options(said.options)
        self.diagnose().require(self.name)
        options = session_options(threads=threads)
        for key, value in said.session.items():
            options.add_session_config_entry(key, value)
        if said.wheels.module is not None:
            made = open_on_devices(path, said.provider, said.device, chosen, options)
        else:
            last = () if said.provider == CPU or not said.fallback else (CPU,)
            providers = ((said.provider, chosen), *said.beside, *last)
            made = open_session(path, providers=providers, options=options)
        if said.provider not in made.get_providers():
            raise EnvironmentProblem(
                f"the session of {path} runs on {', '.join(made.get_providers())}, without {said.provider}",
                hint=f"See what is missing: graphopt targets doctor {self.name}",
            )
        return made

    def session_choices(self) -> Mapping[str, Sequence[Any]]:
        pairs = [((name, value),) for name, values in self.description.tune.items() for value in values]
        return {**super().session_choices(), "options": pairs}

    def unfit_wheel(self) -> Diagnosis | None:
        """A distribution that is installed and not used for the target, with why."""
        for name, reason in self.description.wheels.unfit.items():
            if (found := _version(name)) is not None:
                again = f"pip uninstall -y {name} onnxruntime && pip install onnxruntime"
                said = f"{name} {found} is installed, in onnxruntime's place, and is not used: {reason}"
                return Diagnosis("wrong wheels", said, again)
        return None

    def _wheels(self) -> Diagnosis | None:
        """What is wrong with what is installed; None where nothing is."""
        wheels = self.description.wheels
        if wheels.systems and system() not in wheels.systems:
            return Diagnosis(
                "other system", f"its wheels are for {', '.join(wheels.systems)}; this is {system()}"
            )
        installed = {need: _version(_distribution(need)) for need in wheels.needs}
        missing = [need for need, found in installed.items() if found is None]
        shadowing = [name for name in wheels.instead_of if _version(name) is not None]
        if missing:
            remove = f"pip uninstall -y {' '.join(shadowing)} && " if shadowing else ""
            said = f"{', '.join(missing)} is not installed"
            return Diagnosis("no wheel", said, f"{remove}pip install {_quoted(wheels.needs)}")
        if shadowing:
            both = [*shadowing, *map(_distribution, wheels.needs)]
            said = f"{' and '.join(both)} lie over each other; which files are in force is chance"
            again = _quoted(wheels.needs)
            return Diagnosis(
                "wrong wheels", said, f"pip uninstall -y {' '.join(both)} && pip install {again}"
            )
        for need, found in installed.items():
            if found is not None and not Requirement(need).specifier.contains(found, prereleases=True):
                said = f"{_distribution(need)} {found} is installed, and {need} is needed"
                return Diagnosis("wrong wheels", said, f"pip install {_quoted([need])}")
        return None

    def _provider(self) -> Diagnosis:
        """Whether the provider is there and has a device, once its wheels are."""
        from graphopt.runtime import CPU, provider_devices, provider_starts, register_provider

        said = self.description
        if said.wheels.module is None:
            found = of_provider(said.provider)
            unasked = said.provider == CPU or not found.ready
            has_device = unasked or provider_starts(said.provider, said.options)
        else:
            try:
                register_provider(said.wheels.module)
            except EnvironmentProblem as error:
                return Diagnosis("no provider", error.message, error.hint)
            has_device = bool(provider_devices(said.provider, said.device))
            found = Diagnosis("ready", f"{said.provider} has a device ({said.device})")
        if has_device:
            return found
        wanted = said.needs_device or f"a device ({said.device})"
        return Diagnosis("no device", f"{said.provider} finds no device here; it needs {wanted}")


def described(file: Path, name: str | None = None) -> type[DescribedTarget]:
    """The target that `file` describes, called `name` or as the file is. It is read when it is first used."""
    said = {"name": name or file.stem, "file": file, "__module__": __name__}
    return type(f"{file.stem}-target", (DescribedTarget,), said)


_read = functools.cache(Description.read)


def _distribution(requirement: str) -> str:
    """The name in one of pip's requirements, "openvino>=2026,<2027"."""
    return Requirement(requirement).name


def _quoted(requirements: Sequence[str]) -> str:
    return " ".join(f"'{need}'" for need in requirements)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def system() -> str:
    """As `Wheels.systems` has it."""
    return f"{sys.platform}-{platform.machine().lower()}"
