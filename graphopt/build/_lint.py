"""`lint`: what rules find in a file or a folder; and `mend`: a package without it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from graphopt.build._clock import Progress
from graphopt.build._configure import chosen_target
from graphopt.build._driver import optimize
from graphopt.build._package import Package
from graphopt.errors import BadInput
from graphopt.export import ONNX, Source, export_parts
from graphopt.families import DEFAULT_RECIPE
from graphopt.io import read_json
from graphopt.ir import Scratch, infer_types, node_name
from graphopt.lint import Finding, LintedGraph, Rule, Subject, Trial, TrialEdit, TrialMiss
from graphopt.pipeline import Context, Level, Outcome, Pass
from graphopt.plugins import load_recipe, registry, run_recipe
from graphopt.recipes import Budget, OptimizeOptions, Recipe, Step, recipe_toml
from graphopt.targets import Target

__all__ = ["LintReport", "lint", "mend", "selected_rules"]

_SETTINGS = "genai_config.json"
_REGION = 128
"""Nodes that an edit takes away and each of which may be what a new one comes from. One that takes away more,
as that to another opset, tells nothing of where. A judgement."""
_ROUNDED = Budget(cosine_min=0.99)
"""What a model is held to of which some activations are rounded to 8 bits that were not before: what the
recipe with weights and activations of 8 bits is held to."""


@dataclass(frozen=True)
class LintReport:
    """What `rules` found in `path`, on `target`: the most severe first, then by code and place."""

    path: Path
    target: str
    rules: tuple[Rule, ...]
    found: tuple[tuple[Rule, Finding], ...]

    def by_rule(self) -> Iterator[tuple[Rule, list[Finding]]]:
        """Each rule that found something, and what."""
        for rule in dict.fromkeys(rule for rule, _ in self.found):
            yield rule, [finding for found_by, finding in self.found if found_by is rule]


def selected_rules(only: Collection[str] = (), ignore: Collection[str] = ()) -> tuple[Rule, ...]:
    """The installed rules, by code: `only` some of them, without those to `ignore`. `BadInput` if unknown."""
    known = registry.rules()
    for code in (*only, *ignore):
        registry.resolve("rule", code, known)
    return tuple(known[code] for code in sorted(known) if (not only or code in only) and code not in ignore)


def lint(
    path: str | Path, *, target: str | None = None, only: Collection[str] = (), ignore: Collection[str] = ()
) -> LintReport:
    """What the installed rules find in the .onnx file `path`, or in those of the package folder `path`.

    `target` is the name of what it is to run on (default: the first of graphopt's own), `only` and `ignore`
    are codes of rules. Nothing of the model is run, and no file is written. Raises `BadInput` for a file that
    is no model, and for an unknown target or rule.
    """
    path, on = Path(path), chosen_target(target)
    rules = selected_rules(only, ignore)
    with tempfile.TemporaryDirectory(prefix="graphopt-lint-") as scratch:
        subject = _subject(path, on, rules, Path(scratch))
        found = [(rule, finding) for rule in rules for finding in rule.find(subject)]
    order = {"error": 0, "warning": 1, "note": 2}
    found.sort(key=lambda pair: (order[pair[0].severity], pair[0].code))
    return LintReport(path, on.name, rules, tuple(found))


def mend(
    path: str | Path,
    out: str | Path,
    report: LintReport,
    *,
    options: OptimizeOptions | None = None,
    progress: Progress | None = None,
) -> Package | None:
    """Make a package at `out` of the graph in `path` by the passes that mend what is in `report`.

    They run as `optimize` runs them: each edit beside what it replaces, and the package beside its source. An
    edit that does not keep its promise is taken back. None, and nothing is written, where no pass mends
    anything. Of a folder of onnxruntime-genai's the other files are copied. Raises what `optimize` raises,
    and `BadInput` for a folder of several graphs.
    """
    path = Path(path)
    graphs = _graph_files(path)
    if len(graphs) > 1:
        names = ", ".join(file.name for file in graphs)
        raise BadInput(f"{path} holds several graphs: {names}", hint="Name one of them: --fix mends one.")
    rules = [rule for rule, _ in report.by_rule()]
    if not any(rule.mends for rule in rules):
        return None
    target = chosen_target(report.target)
    recipe = _mending(rules, target, without=_passes(registry.rules().values()) - _passes(report.rules))
    asked = replace(options or OptimizeOptions(), target=target.name, on_mismatch="rollback")
    with tempfile.TemporaryDirectory(prefix="graphopt-lint-") as folder:
        file = Path(folder) / "mended.toml"
        file.write_text(recipe_toml(recipe), encoding="utf-8")
        package = optimize(graphs[0], out, options=replace(asked, recipe=str(file)), progress=progress)
    if path.is_dir():
        _copy_rest(path, graphs[0].name, package.path)
    return package


def _subject(path: Path, target: Target, rules: Sequence[Rule], scratch: Path) -> Subject:
    files = _graph_files(path)
    recipe = _mending(rules, target)
    graphs = []
    for index, file in enumerate(files):
        room = scratch / str(index)
        room.mkdir()
        model = _loaded(file)
        infer_types(model)

        def run(file: Path = file, model: ir.Model = model, room: Path = room) -> Trial:
            return _trial(_loaded(file), model, recipe, target, room)

        graphs.append(LintedGraph(file.name, model, run))
    settings = (path if path.is_dir() else path.parent) / _SETTINGS
    return Subject(target, tuple(graphs), read_json(settings) if settings.is_file() else None)


def _graph_files(path: Path) -> list[Path]:
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    if path.is_file():
        return [path]
    found = sorted(path.glob("*.onnx"))
    if not found:
        raise BadInput(f"{path} holds no .onnx file")
    return found


def _loaded(file: Path) -> ir.Model:
    (exported,) = export_parts(Source(file.name, file, ONNX))
    return exported.model


def _trial(copy: ir.Model, model: ir.Model, recipe: Recipe, target: Target, scratch: Path) -> Trial:
    """What the passes of `recipe` do to `copy`, told by nodes of `model`. No edit is run."""
    context = Context(copy, target=target, scratch=Scratch(scratch))
    result = run_recipe(copy, recipe, context, OptimizeOptions(verify="off"))
    nodes = {node_name(node): node for node in model.graph.all_nodes()}
    origins: dict[str, tuple[str, ...]] = {}
    edits, misses = [], []
    for record in result.records:
        name = record.step.partition("#")[0]
        misses += [TrialMiss(name, miss.where, miss.reason) for miss in record.near_misses]
        for edit in record.edits:
            if edit.outcome != Outcome.APPLIED.value:
                continue
            own = {each: origins.get(each, (each,)) for each in edit.removed}
            sources = tuple(dict.fromkeys(source for names in own.values() for source in names))
            rest = sources if len(sources) <= _REGION else ()
            origins.update({made: own.get(made, rest) for made in edit.made})
            taken = tuple(nodes[source] for source in sources if source in nodes)
            edits.append(TrialEdit(name, edit.summary, taken))
    return Trial(edits, misses)


def _mending(rules: Iterable[Rule], target: Target, without: Collection[str] = ()) -> Recipe:
    """The default recipe, and the steps that mend what `rules` find; those of passes in `without` left out.

    A step that the recipe has takes over the options. Of the others those that compress, or lower, stand
    before the target's own, and the rest behind those that upgrade.
    """
    recipe = load_recipe(DEFAULT_RECIPE)
    lowering = tuple(target.lowering(recipe))
    steps = {step.name: step for rule in rules for step in rule.mends}
    known = {step.name for step in (*recipe.steps, *lowering)}
    passes = registry.passes()
    more = sorted(
        (step for name, step in steps.items() if name not in known),
        key=lambda step: registry.resolve("pass", step.name, passes).level,
    )
    first = [step for step in more if passes[step.name].level < Level.COMPRESS]
    upgraded = [at for at, step in enumerate(recipe.steps) if _level(step, passes) is Level.UPGRADE]
    begin = 1 + max(upgraded, default=-1)
    steps_with_first = (*recipe.steps[:begin], *first, *recipe.steps[begin:])
    compressing = [step for step in more if step not in first]
    whole = replace(recipe, steps=steps_with_first).expanded((*compressing, *lowering)).steps
    kept = (
        replace(step, options={**step.options, **steps[step.name].options}) if step.name in steps else step
        for step in whole
        if step.name not in without
    )
    lossy = any(passes[step.name].contract.kind == "lossy" for step in more if step.name not in without)
    return replace(
        recipe,
        name="mended",
        description="What rules found, mended.",
        budget=_ROUNDED if lossy else recipe.budget,
        steps=tuple(kept),
    )


def _level(step: Step, passes: Mapping[str, type[Pass]]) -> Level | None:
    cls = passes.get(step.name)
    return None if cls is None else cls.level


def _passes(rules: Iterable[Rule]) -> set[str]:
    return {step.name for rule in rules for step in rule.mends}


def _copy_rest(source: Path, graph: str, out: Path) -> None:
    """What lies beside `graph` in a folder of onnxruntime-genai's, its settings naming the new graph."""
    settings = source / _SETTINGS
    if not settings.is_file():
        return
    for file in source.iterdir():
        if file.is_file() and not file.name.startswith(graph) and not (out / file.name).exists():
            shutil.copyfile(file, out / file.name)
    text = settings.read_text(encoding="utf-8").replace(f'"{graph}"', '"model.onnx"')
    (out / _SETTINGS).write_text(text, encoding="utf-8")
