"""Which nodes of a package run where."""

from __future__ import annotations

from graphopt.errors import BadInput
from graphopt.package import RunnablePackage
from graphopt.runtime import CPU, with_options

__all__ = ["fallback_nodes"]

_RECORDED = "session.record_ep_graph_assignment_info"


def fallback_nodes(package: RunnablePackage) -> list[str]:
    """The nodes that onnxruntime leaves to another execution provider than the target's, by name.

    It is asked of sessions of all graphs, but on the CPU provider, which leaves nothing to others: there no
    session is opened. `BadInput` where a target opens sessions that do not tell.
    """
    target = package.target()
    if target.provider == CPU:
        return []
    found: list[str] = []
    for role in package.manifest.graphs:
        with with_options(lambda options: options.add_session_config_entry(_RECORDED, "1")):
            session = package.session(role)
        if target.provider not in session.get_providers():
            raise BadInput(f"{package.path} runs on {', '.join(session.get_providers())} here")
        try:
            assigned = session.get_provider_graph_assignment_info()
        except (AttributeError, RuntimeError) as error:
            raise BadInput(
                f"sessions of target {target.name!r} do not tell where nodes run: {error}",
                hint="Leave fallback_nodes out.",
            ) from error
        for part in assigned:
            if part.ep_name != target.provider:
                found += [node.name or node.op_type for node in part.get_nodes()]
    return found
