"""Which nodes of a package run where."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.errors import BadInput
from graphopt.package import RunnablePackage
from graphopt.runtime import CPU, RECORDED, with_options

__all__ = ["AssignedNode", "Untold", "assigned_nodes", "fallback_nodes"]


class Untold(BadInput):
    """Sessions of a target do not tell where nodes run."""


@dataclass(frozen=True)
class AssignedNode:
    """A node as onnxruntime shared it out, before a provider fuses or compiles what it took."""

    name: str
    operator: str
    provider: str


def assigned_nodes(package: RunnablePackage, role: str) -> list[AssignedNode]:
    """The nodes of the graph that plays `role`, each with the execution provider that took it.

    `BadInput` where the session is not on the target's provider at all, `Untold` where it does not tell.
    """
    target = package.target()
    with with_options(lambda options: options.add_session_config_entry(RECORDED, "1")):
        session = package.session(role)
    if target.provider not in session.get_providers():
        raise BadInput(f"{package.path} runs on {', '.join(session.get_providers())} here")
    try:
        assigned = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError) as error:
        raise Untold(
            f"sessions of target {target.name!r} do not tell where nodes run: {error}",
            hint="Leave fallback_nodes out.",
        ) from error
    return [
        AssignedNode(node.name, node.op_type, part.ep_name) for part in assigned for node in part.get_nodes()
    ]


def fallback_nodes(package: RunnablePackage) -> list[str]:
    """The nodes that onnxruntime leaves to another execution provider than the target's, by name.

    It is asked of sessions of all graphs, but on the CPU provider, which leaves nothing to others: there no
    session is opened. `BadInput` where a target opens sessions that do not tell.
    """
    provider = package.target().provider
    if provider == CPU:
        return []
    return [
        node.name or node.operator
        for role in package.manifest.graphs
        for node in assigned_nodes(package, role)
        if node.provider != provider
    ]
