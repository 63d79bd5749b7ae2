"""A package on disk, and what runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from graphopt.errors import BadInput
from graphopt.package._manifest import MANIFEST, VARIANTS, Manifest, TargetInfo, read_manifest
from graphopt.plugins import registry

if TYPE_CHECKING:
    from graphopt.families import Assumption, Family
    from graphopt.interface import Interface, Model
    from graphopt.package._answers import Prompt
    from graphopt.runtime import Completion, Message, SessionSettings
    from graphopt.targets import Target

__all__ = ["RunnablePackage"]


class RunnablePackage:
    """A folder that `optimize` or `export_package` wrote. `path` is where, `manifest` its graphopt.json.

    What there is to do with one that takes more than running it, `graphopt.Package` adds.
    """

    def __init__(self, path: Path, manifest: Manifest, *, settings: SessionSettings | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._settings = settings

    @classmethod
    def load(cls, path: str | Path, target: str | None = None) -> Self:
        """The package at `path`. `BadInput` where there is none, or files of it are missing.

        Of a folder for several targets it is the one for `target` or else, in the order in which they were
        asked for, for the first that can run here.
        """
        path = _chosen(Path(path), target)
        manifest = read_manifest(path)
        for graph in manifest.graphs.values():
            if not (path / graph.file).is_file():
                raise BadInput(
                    f"package {path} is incomplete: {graph.file} is missing", hint="Make it again."
                )
        return cls(path, manifest)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def target(self) -> Target:
        """The target this package was compiled for."""
        found: type[Target] = registry.resolve("target", self.manifest.target.name, registry.targets())
        return found()

    def interface(self) -> Interface:
        """The inputs and outputs of the model this package was made from."""
        return self.manifest.source_interface

    def assumptions(self) -> tuple[Assumption, ...]:
        """The conditions under which alone it is right."""
        from graphopt.families import Assumption

        manifest = self.manifest
        found = {key: Assumption(key, text) for key, text in manifest.assumptions.items()}
        found |= {a.key: a for a in manifest.conditions}
        return tuple(found.values())

    def on(self, target: str) -> Self:
        """The package that the folder has for `target`, or else the same files on it.

        What was measured of sessions was measured on the package's own target.
        """
        if target == self.manifest.target.name:
            return self
        root = self.path.parent.parent if self.path.parent.name == VARIANTS else self.path
        if (root / MANIFEST).is_file():
            whole = read_manifest(root)
            if target in (whole.target.name, *whole.variants):
                return type(self).load(root, target)
        changes = {"target": TargetInfo(name=target), "sessions": ()}
        return type(self)(self.path, self.manifest.model_copy(update=changes))

    def with_settings(self, settings: SessionSettings) -> Self:
        """The same with sessions that are set up as `settings` say, whatever was measured."""
        return type(self)(self.path, self.manifest, settings=settings)

    def settings(self) -> SessionSettings:
        """How sessions are set up here: as was measured on a machine like this one, if it was."""
        from graphopt.runtime import SessionSettings

        if self._settings is not None:
            return self._settings
        if not self.manifest.sessions:
            return SessionSettings()
        here = self.target().fingerprint()
        tuned = (one.settings for one in self.manifest.sessions if one.fingerprint == here)
        return next(tuned, SessionSettings())

    def session(self, role: str = "model", *, threads: int | None = None) -> Any:
        """An `onnxruntime.InferenceSession` of the graph that plays `role`, set up for this machine.

        `threads` go before those of `settings`. `BadInput` where the CPU provider would have to run nodes,
        and the package was made with `cpu_fallback` off.
        """
        from graphopt.runtime import forbid_fallback, with_options

        settings = self.settings()
        with contextlib.ExitStack() as told:
            told.enter_context(settings.in_force())
            if not self.manifest.cpu_fallback:
                told.enter_context(with_options(forbid_fallback))
            path = self.path / self.manifest.graphs[role].file
            return self.target().session(path, threads=threads or settings.threads)

    def run(self, feeds: Mapping[str, Any], *, threads: int | None = None) -> dict[str, Any]:
        """Outputs by name from arrays by input name. `BadInput` for inputs that do not fit the graph or what
        the package assumes: that they are not empty, or that its table has a row for every id.

        A package of several graphs takes and gives what its source as a whole does. A batch of
        texts is run in several calls where `manifest.max_batch_tokens` says so: see `ready`.
        """
        from graphopt.runtime import SECONDS

        if "model" in self.manifest.graphs:
            session = self.session(threads=threads)
            wanted = [spec.name for spec in session.get_inputs()]
            known = {*wanted, *(spec.name for spec in session.get_overridable_initializers())}
            model = self._ready(session, SECONDS)
        else:
            wanted = [spec.name for spec in self.interface().inputs]
            known, model = set(wanted), self.as_source(threads=threads)
        unknown, missing = sorted(set(feeds) - known), [name for name in wanted if name not in feeds]
        if unknown or missing:
            wrong = f"no input {unknown[0]!r}" if unknown else f"an input {missing[0]!r}, which is not given"
            raise BadInput(f"{self.path} has {wrong}", hint=f"It takes {', '.join(wanted)}.")
        self._require_sizes(feeds)
        return dict(model(feeds))

    def _require_sizes(self, feeds: Mapping[str, Any]) -> None:
        sizes = {
            dim: size
            for spec in self.interface().inputs
            for dim, size in zip(spec.dims, getattr(feeds.get(spec.name), "shape", ()), strict=False)
            if isinstance(dim, str)
        }
        for assumption in self.assumptions():
            if not assumption.allows_sizes(sizes):
                empty = ", ".join(name for name in assumption.not_empty if sizes.get(name) == 0)
                raise BadInput(
                    f"{self.path} takes no empty inputs: the size {empty} is 0",
                    hint="It was made under the assumption that none is; leave such calls out.",
                )

    def _guarded(self, model: Model) -> Model:
        """`model`, where an id that the kernels would give nothing for is refused, and what is too long."""
        bounds = [assumption for assumption in self.assumptions() if assumption.below or assumption.longest]
        if not bounds:
            return model

        def guarded(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
            for assumption in bounds:
                found = assumption.refused(feeds)
                if found is not None:
                    name, number = found
                    raise BadInput(
                        f"{self.path} has no row for {number} in {name}: {assumption.text}",
                        hint="Is the tokenizer this model's, with as many tokens?",
                    )
                if (longer := assumption.too_long(feeds)) is not None:
                    name, size = longer
                    raise BadInput(
                        f"{name} is {size} long, and {self.path} takes {assumption.longest[name]} at most",
                        hint="Cut it, or make the package for longer ones: --dim.",
                    )
            return model(feeds)

        return guarded

    def ready(self, *, threads: int | None = None) -> Model:
        """What `run` runs, to be called often: from feeds by input name to results by output name.

        A package with `manifest.max_batch_tokens` runs a batch in calls of texts of about one length and of
        so many tokens (`graphopt.runtime.LengthBucketing`): results at positions that are padding are zero
        where they were not computed.
        """
        if "model" not in self.manifest.graphs:
            return self.as_source(threads=threads)
        return self._ready(self.session(threads=threads), seconds=None)

    def _ready(self, session: Any, seconds: float | None) -> Model:
        from graphopt.runtime import LengthBucketing, has_rows, session_model

        model = self._guarded(session_model(session, str(self.path), BadInput, seconds=seconds))
        tokens, interface = self.manifest.max_batch_tokens, self.manifest.graphs["model"].interface
        if tokens is None or not has_rows(interface):
            return model
        return LengthBucketing(model, interface, max_batch_tokens=tokens)

    def as_source(self, *, threads: int | None = None) -> Model:
        """The package as a function with its source's interface, whatever became of that."""
        from graphopt.plugins import adapter_from_json, through
        from graphopt.runtime import session_model

        models, interfaces = {}, {}
        for role, graph in self.manifest.graphs.items():
            adapters = [a for a in self.manifest.adapters if a.get("role", role) == role]
            session = session_model(self.session(role, threads=threads), str(self.path), BadInput)
            models[role] = through(map(adapter_from_json, adapters), self._guarded(session))
            interfaces[role] = graph.interface
        if "model" in models:
            return models["model"]
        return self.family().joined(models, interfaces)

    def family(self) -> Family:
        """The family of the model this package was made from. `BadInput` where that was an .onnx file."""
        if self.manifest.family is None:
            raise BadInput(
                f"{self.path} was made from an .onnx file",
                hint="Give that file, or a package, as --reference.",
            )
        found: type[Family] = registry.resolve("model family", self.manifest.family, registry.families())
        return found()

    def stream(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 128,
        chat: bool = False,
        system: str | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        repetition_penalty: float | None = None,
        stop: str | Sequence[str] = (),
        speculate: bool = False,
        threads: int | None = None,
    ) -> Iterator[str]:
        """Pieces of the answer to `prompt` as they are generated.

        At `temperature` 0 the likeliest token is taken; else one is drawn, with `seed`, from the likeliest
        ones that together have probability `top_p`. What generation_config.json says of penalties, tokens
        that are not allowed, the least length and stop strings holds as in transformers;
        `repetition_penalty` takes the place of its own, and the text also ends before each string of `stop`.

        With `chat` or `system` the model's template words `prompt` as a message, after what `system` says; a
        prompt that is a list of messages (`{"role": ..., "content": ...}`) is a chat already. `speculate`
        drafts what the text said before and checks several tokens a call: the same text, up to near-ties. A
        package of an encoder and a decoder takes neither.

        Raises `BadInput` for an empty prompt, one longer than the context or with tokens that the model does
        not know, a chat template that is missing or fails, and a package that generates no text.
        """
        from graphopt.package._answers import Answers

        return Answers(self, speculate=speculate, threads=threads)(
            prompt,
            max_new_tokens=max_new_tokens,
            chat=chat,
            system=system,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            repetition_penalty=repetition_penalty,
            stop=stop,
        )

    @overload
    def generate(self, prompt: Prompt, **options: Any) -> str: ...
    @overload
    def generate(self, prompt: Sequence[str] | Sequence[Sequence[Message]], **options: Any) -> list[str]: ...
    def generate(self, prompt: Any, **options: Any) -> str | list[str]:
        """The whole answer to `prompt`, or to each of a list of prompts; options as for `stream`."""
        from graphopt.package._answers import is_prompt

        if is_prompt(prompt):
            return "".join(self.stream(prompt, **options))
        return [completion.text for completion in self.completions(prompt, **options)]

    def completions(
        self,
        prompts: Sequence[Prompt],
        *,
        logprobs: int | None = None,
        speculate: bool = False,
        threads: int | None = None,
        **options: Any,
    ) -> list[Completion]:
        """Answers to `prompts`, one after the other, with their tokens and why they ended.

        `logprobs` asks for the probability of each token, and of so many likeliest ones in its place. Other
        options are those of `stream`.
        """
        from graphopt.package._answers import Answers

        answer = Answers(self, speculate=speculate, threads=threads)
        return [answer(prompt, logprobs=logprobs, **options).completion() for prompt in prompts]


def _chosen(path: Path, target: str | None) -> Path:
    """The package in the folder at `path` that is for `target`, or for the first that can run here."""
    manifest = read_manifest(path)
    names = (manifest.target.name, *manifest.variants)
    if target is not None and target not in names:
        raise BadInput(f"{path} has no graphs for target {target!r}", hint=f"It has {', '.join(names)}.")
    if target is None and manifest.variants:
        known = registry.targets()
        target = next((name for name in names if name in known and known[name]().diagnose().ready), None)
    return path if target in (None, manifest.target.name) else path / VARIANTS / target
