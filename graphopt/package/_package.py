"""A package on disk, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt import registry
from graphopt.errors import BadInput
from graphopt.package._manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from graphopt._validation import Validation
    from graphopt.evaluate import BenchReport
    from graphopt.families import Interface
    from graphopt.report import Report
    from graphopt.targets import Target

__all__ = ["Package"]


class Package:
    """A folder that `optimize` or `export_package` wrote. `path` is where, `manifest` its graphopt.json."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def load(cls, path: str | Path) -> Package:
        """The package at `path`. `BadInput` where there is none, or files of it are missing."""
        path = Path(path)
        manifest = read_manifest(path)
        for graph in manifest.graphs.values():
            if not (path / graph.file).is_file():
                raise BadInput(
                    f"package {path} is incomplete: {graph.file} is missing", hint="Make it again."
                )
        return cls(path, manifest)

    def __repr__(self) -> str:
        return f"Package({str(self.path)!r})"

    def target(self) -> Target:
        """The target this package was compiled for."""
        found: type[Target] = registry.resolve("target", self.manifest.target.name, registry.targets())
        return found()

    def interface(self) -> Interface:
        """The inputs and outputs of the model this package was made from."""
        from graphopt.families import Interface, TensorSpec

        def specs(side: str) -> tuple[TensorSpec, ...]:
            ports = getattr(self.manifest.source_interface, side)
            return tuple(TensorSpec(port.name, port.dtype, port.shape or ()) for port in ports)

        return Interface(specs("inputs"), specs("outputs"))

    def report(self) -> Report:
        """What was written about the run that made this package. `BadInput` where that is lost."""
        from graphopt.report import REPORT, Report

        try:
            return Report.model_validate_json((self.path / REPORT).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError) as error:
            raise BadInput(f"{self.path / REPORT} is missing or damaged: {error}") from error

    def session(self, role: str = "model", *, threads: int | None = None) -> Any:
        """An `onnxruntime.InferenceSession` of the graph that plays `role`, set up for this machine."""
        return self.target().session(self.path / self.manifest.graphs[role].file, threads=threads)

    def run(self, feeds: Mapping[str, Any], *, threads: int | None = None) -> dict[str, Any]:
        """Outputs by name from arrays by input name. `BadInput` for inputs that do not fit the graph."""
        from graphopt._accuracy import session_model

        session = self.session(threads=threads)
        wanted = [spec.name for spec in session.get_inputs()]
        known = {*wanted, *(spec.name for spec in session.get_overridable_initializers())}
        unknown, missing = sorted(set(feeds) - known), [name for name in wanted if name not in feeds]
        if unknown or missing:
            wrong = f"no input {unknown[0]!r}" if unknown else f"an input {missing[0]!r}, which is not given"
            raise BadInput(f"{self.path} has {wrong}", hint=f"It takes {', '.join(wanted)}.")
        return dict(session_model(session, str(self.path), BadInput)(feeds))

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        chat: bool = False,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        threads: int | None = None,
    ) -> Iterator[str]:
        """Pieces of the answer to `prompt` as they are generated, through onnxruntime-genai.

        At `temperature` 0 the likeliest token is taken; else one is drawn, with `seed`, from the likeliest
        ones that together have probability `top_p`. `chat` wraps the prompt in the model's chat template.
        Raises `BadInput` for an empty prompt, one longer than the context, and a package that generates no
        text.
        """
        from graphopt.runtime import Sampling, TextModel

        model = TextModel(self.path, threads=threads)
        text = model.chat(prompt) if chat else prompt
        sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
        return model.generate(text, max_new_tokens=max_new_tokens, sampling=sampling)

    def generate(self, prompt: str, **options: Any) -> str:
        """The whole answer to `prompt`; options as for `stream`."""
        return "".join(self.stream(prompt, **options))

    def validate(
        self,
        reference: str | Path,
        *,
        data: str | Path | None = None,
        tokens: int = 16384,
        trust_remote_code: bool = False,
    ) -> Validation:
        """How much of `reference`, the source or another package, is left in this one.

        Language models: perplexity of both, KL divergence, top-1 agreement over `tokens` tokens of `data`, a
        text file, or of built-in Python source. Other models: cosine, on the lines of such a text where they
        take text, on `data` as an .npz file of inputs, else on random legal inputs.
        """
        from graphopt._validation import validate

        file = Path(data) if data is not None else None
        return validate(self, reference, data=file, tokens=tokens, trust_remote_code=trust_remote_code)

    def bench(self, against: str | Path | Package | None = None, **options: Any) -> BenchReport:
        """Speed of this package, in fresh processes, interleaved with `against` if given.

        Options as for `graphopt.evaluate.bench`.
        """
        from graphopt._speed import measure_speed

        other = against.path if isinstance(against, Package) else against
        return measure_speed(self.path, other, **options)
