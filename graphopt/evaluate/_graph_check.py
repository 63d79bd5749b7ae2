"""The closing check of a graph: its reference, the package, and legal inputs for both."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from graphopt.evaluate._accuracy import LanguageAccuracy
from graphopt.evaluate._bindings import SEED, Bindings
from graphopt.evaluate._closing import CheckedMetric, ClosingCheck, closing_check
from graphopt.evaluate._corpus import Corpus, built_in_corpus
from graphopt.evaluate._language import TEXT_GENERATION, as_logits, measure_language
from graphopt.evaluate._source_graph import check_against_source_graph
from graphopt.evaluate._text_cases import on_text
from graphopt.export import Exported, Source
from graphopt.families import Assumption, Case, InputDomain, meeting
from graphopt.interface import Adapter, Interface, Model
from graphopt.plugins import through
from graphopt.recipes import Budget
from graphopt.runtime import LengthBucketing, Tokenizer, has_rows, session_model
from graphopt.targets import Target

__all__ = ["GraphCheck", "check_graph", "check_whole", "rows_stand_alone"]

_PYTORCH = "the source in PyTorch, fp32"
TOKENS = 2048
"""Of held-out text, in every run that is not lossless: eight sequences, seconds for a small model, for wider
intervals than those of `validate`, which takes 16384."""
CHARACTERS = 20_000
"""More text than the cases have tokens for; what is tokenized beyond is not used."""


@dataclass(frozen=True)
class GraphCheck:
    """What the comparison of a graph came to, and the graph with the interface it was exported with.

    `reference` is the source in PyTorch, where that is what it was compared with; `generates`: as a model
    that goes on with a text.
    """

    check: ClosingCheck
    package: Model
    interface: Interface
    reference: Model | None = None
    generates: bool = False


def check_graph(
    source: Source,
    exported: Exported,
    target: Target,
    adapters: Sequence[Adapter],
    budget: Budget,
    bindings: Bindings,
    *,
    folder: Path,
    file: str,
    assumptions: Sequence[Assumption],
    trust_remote_code: bool = False,
) -> GraphCheck:
    """Compare the graph that was `exported`, as `target` runs what became of it, with what it was made from.

    `folder` holds the package's files, `file` of them the graph; `assumptions` are those it was made under. A
    lossy package is compared on the arrays of `bindings`, if there are any: nobody promised any for noise.
    """
    session = target.session(folder / file)
    package = through(adapters, session_model(session, "the package"))
    part, domain = exported.part(), exported.domain()
    if part is None or domain is None or exported.source_dir is None:
        found = check_against_source_graph(
            source, exported.interface, target, package, folder / file, adapters, budget, bindings
        )
        return GraphCheck(found, package, exported.interface)
    reference = part.reference(
        exported.source_dir, exported.task, exported.interface, trust_remote_code=trust_remote_code
    )
    generates = exported.task == TEXT_GENERATION
    cases: Iterable[Case] = domain.cases(np.random.default_rng(SEED))
    if bindings.arrays and not budget.lossless:
        cases = bindings.cases(exported.interface)
    if budget.lossless:
        cases = itertools.chain(cases, domain.furthest(np.random.default_rng(SEED)))
    if exported.role != "model":
        cases = (replace(case, name=f"{exported.role} {case.name}") for case in cases)
    cases = meeting(assumptions, cases)
    measured: list[CheckedMetric] = []
    if generates and not budget.lossless:
        if not (folder / "tokenizer.json").is_file():
            reason = "the model has no tokenizer: there is no text to measure on"
            return GraphCheck(ClosingCheck("inconclusive", reason=reason), package, exported.interface)
        text = built_in_corpus()
        states = part.states(exported.interface)
        logits = as_logits(reference, exported.interface, states)
        own = part.states(Interface.of(exported.model))
        measured = _within(budget, text, measure_language(session, logits, folder, text, TOKENS, own))
        tokens = Tokenizer(folder).plain(text.text[:CHARACTERS])
        cases = on_text(cases, tokens, reference, exported.interface, states)
    check = closing_check(
        reference,
        package,
        cases=cases,
        budget=budget,
        distribution=generates,
        against=_PYTORCH,
        measured=measured,
    )
    return GraphCheck(check, package, exported.interface, reference, generates)


def rows_stand_alone(
    reference: Model,
    package: Model,
    interface: Interface,
    domain: InputDomain,
    budget: Budget,
    assumptions: Sequence[Assumption] = (),
) -> bool:
    """Whether `package` is as near to `reference` when the rows of a batch are cut to their own lengths."""
    if not has_rows(interface):
        return False
    rng = np.random.default_rng(SEED)
    cases = meeting(assumptions, (*domain.cases(rng), *domain.edges(rng)))
    padded = [case for case in cases if case.padding == "right"]
    cut = LengthBucketing(package, interface, max_batch_tokens=1, call_overhead=0)
    found = closing_check(reference, cut, cases=padded, budget=budget, distribution=False, against=_PYTORCH)
    return found.verdict == "passed"


def check_whole(
    exported: Sequence[Exported],
    parts: Mapping[str, Model],
    budget: Budget,
    assumptions: Sequence[Assumption],
    trust_remote_code: bool,
) -> ClosingCheck:
    """Compare what `parts` make together with the source that they were `exported` from."""
    first = exported[0]
    assert first.family is not None
    assert first.source_dir is not None
    interfaces = {part.role: part.interface for part in exported}
    interface = first.family.interface(interfaces)
    domain = first.family.input_domain(interface, first.config or {})
    return closing_check(
        first.family.reference(first.source_dir, first.task, interface, trust_remote_code=trust_remote_code),
        first.family.joined(parts, interfaces),
        cases=meeting(assumptions, domain.cases(np.random.default_rng(SEED))),
        budget=budget,
        distribution=False,
        against=_PYTORCH,
    )


def _within(budget: Budget, text: Corpus, found: LanguageAccuracy) -> list[CheckedMetric]:
    bounds = ((budget.kl_mean, "kl_mean", found.kl_mean), (budget.kl_p99, "kl_p99", found.kl_p99))
    return [
        CheckedMetric(text.name, "logits", metric, estimate.value, bound)
        for bound, metric, estimate in bounds
        if bound is not None
    ]
