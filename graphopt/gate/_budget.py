"""What a package is held to where nobody said: the budget of the recipe that made it."""

from __future__ import annotations

from graphopt.errors import BadInput
from graphopt.evaluate import LOSSLESS, TEXT_GENERATION
from graphopt.gate._bounds import Gate, Operator
from graphopt.package import LOCK, Lock, RunnablePackage

__all__ = ["budget_gates"]

RECIPE = "recipe"
_LANGUAGE = ("kl_mean", "kl_p99")


def budget_gates(package: RunnablePackage, *, beside_package: bool) -> tuple[Gate, ...]:
    """Gates that hold `package` to its recipe's budget; `beside_package`: and to the baseline's interface.

    A lossless package is held to what docs/architecture.md says of one, over all that is measured.
    """
    path = package.path / LOCK
    try:
        budget = Lock.model_validate_json(path.read_bytes()).budget
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} is missing or damaged, and with it what the package may lose",
            hint='Say what it is held to: --gate "kl_mean <= 0.02".',
        ) from error
    gates = [_gate(key, budget[key]) for key in _bounded(package) if budget.get(key) is not None]
    if not any(value is not None for value in budget.values()):
        gates = [_gate("scaled_difference", LOSSLESS)]
    if beside_package:
        gates.append(_gate("interface_changes", 0))
    return tuple(gates)


def _bounded(package: RunnablePackage) -> tuple[str, ...]:
    return _LANGUAGE if package.manifest.task == TEXT_GENERATION else ("cosine_min",)


def _gate(metric: str, bound: float | None) -> Gate:
    assert bound is not None
    sign: Operator = ">=" if metric == "cosine_min" else "<="
    return Gate(metric, sign, bound, False, f"{metric} {sign} {bound:g}", RECIPE)
