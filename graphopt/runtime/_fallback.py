"""Sessions that may not leave nodes to onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphopt.errors import BadInput

__all__ = ["RECORDED", "forbid_fallback", "forbids_fallback", "nodes_left", "refusal"]

RECORDED = "session.record_ep_graph_assignment_info"
"""Entry of a session's configuration: keep what `get_provider_graph_assignment_info` tells."""
_DISABLED = "session.disable_cpu_ep_fallback"
_SHOWN = 4  # nodes in a message


def forbid_fallback(options: Any) -> None:
    """Have sessions with `options` fail where a node would run on the CPU provider: see `with_options`."""
    options.add_session_config_entry(_DISABLED, "1")


def forbids_fallback(options: Any) -> bool:
    """Whether `options`, an `onnxruntime.SessionOptions`, say so."""
    try:
        return bool(options.get_session_config_entry(_DISABLED) == "1")
    except RuntimeError:  # nobody said either
        return False


def nodes_left(open_session: Callable[[], Any], options: Any, provider: str) -> Sequence[str]:
    """The nodes that `provider` leaves in what `open_session` opens with `options`: "name (operator)"."""
    options.add_session_config_entry(_DISABLED, "0")
    options.add_session_config_entry(RECORDED, "1")
    return [
        f"{node.name or '?'} ({node.op_type})"
        for part in open_session().get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
    ]


def refusal(name: str, provider: str, left: Sequence[str]) -> BadInput:
    """What to raise of the model `name` where `provider` left nodes."""
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return BadInput(
        f"{name} does not run on {provider} alone: it leaves {', '.join(left[:_SHOWN])}{more}",
        hint="Allow the CPU provider, or make a package of nodes that this one takes.",
    )
