"""What is chosen at the end by measuring the package on its target."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np

from graphopt.evaluate import SEED, GraphCheck, rows_stand_alone
from graphopt.families import InputDomain
from graphopt.interface import Arrays, Interface
from graphopt.pipeline import Context
from graphopt.recipes import Budget
from graphopt.runtime import has_rows, measured_batch_tokens

__all__ = ["tuned_batch_tokens"]

_MASK = "attention_mask"
_TEXT = 128
"""Tokens of the text that is repeated: about a paragraph, as encoders are fed."""


def tuned_batch_tokens(compared: GraphCheck, context: Context, budget: Budget) -> int | None:
    """How many tokens a call of a package best has, where rows of a batch may be run apart.

    None where they may not, or it generates text; 0: any number. `compared` is what the closing check ran.
    The choice is one of the decisions of `context`, which a lock replays.
    """
    reference, domain = compared.reference, context.domain
    if reference is None or domain is None or compared.generates:
        return None
    interface = compared.interface
    if context.target is not None and context.target.fixed_sizes:
        return None  # calls are padded to the one size that there is
    if not has_rows(interface) or not has_rows(Interface.of(context.model)):
        return None
    assumptions = list(context.assumptions.values())
    if not rows_stand_alone(reference, compared.package, interface, domain, budget, assumptions):
        return None
    text = _one_text(domain)
    if text is None:
        return None
    tokens: int = context.decide("batches", partial(measured_batch_tokens, compared.package, text))
    return tokens


def _one_text(domain: InputDomain) -> Arrays | None:
    """The longest legal call of one text, up to `_TEXT` tokens; None where there is none."""
    rng = np.random.default_rng(SEED)
    cases = itertools.chain(domain.longer(rng, _TEXT), domain.cases(rng))
    single = [case.feeds for case in cases if len(case.feeds[_MASK]) == 1]
    return max(single, key=lambda feeds: feeds[_MASK].size, default=None)
