"""Passes that give a decoder other weights and the same answers, with every edit verified."""

from __future__ import annotations

import numpy as np

from graphopt.interface import Interface
from graphopt.pipeline import Context, RunHooks, RunResult
from graphopt.plugins import run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.verify import EditVerifier
from tests.passes._canonical import GEMMA2, GPT2, Domain, Shape, canonical_decoder
from tests.passes._runs import Lowered

FAMILIES = {
    "llama": Shape(hidden=64, layers=1),
    "qwen2": Shape(bias=True, layers=1),
    "qwen3": Shape(qk_norm="before", layers=1),
    "gemma2": GEMMA2,
    "gpt2": GPT2,
    "one-head-each": Shape(hidden=20, kv_heads=4, layers=1),
}


def largest_error(lowered: Lowered) -> float:
    """In all legal calls, in standard deviations of an output."""
    return max(lowered.error(case) for case in Domain(lowered.shape).cases(np.random.default_rng(0)))


def verified(shape: Shape, *steps: str | Step) -> RunResult:
    """What `steps` did to a decoder, each edit checked; `Mismatch` where one was wrong."""
    model = canonical_decoder(shape)
    context = Context(model, domain=Domain(shape), task="text-generation")
    chain = tuple(step if isinstance(step, Step) else Step(step) for step in steps)
    with EditVerifier(Interface.of(model), Domain(shape)) as verifier:
        return run_recipe(
            model, Recipe("test", "", Budget(), chain), context, hooks=RunHooks(verifier=verifier)
        )


def verdicts(result: RunResult, step: str) -> set[str]:
    (record,) = [r for r in result.records if r.step == step]
    return {edit.verdict or "" for edit in record.edits}
