"""What a session says of its inputs is what the graph says of them."""

from __future__ import annotations

import pytest

from graphopt.interface import Interface
from graphopt.ir import parse
from graphopt.runtime import session_specs
from tests.passes._runs import session


@pytest.mark.parametrize(
    "kind",
    ["float", "double", "float16", "int64", "uint8", "bool", "string", "seq(float)", "optional(float)"],
)
def test_a_session_has_the_specs_of_its_graph(kind: str) -> None:
    shape = "" if "(" in kind else "[batch, 3, ?]"
    ports = f"({kind}{shape} x) => ({kind}{shape} y)"
    model = parse(f'<ir_version: 10, opset_import: ["": 21]> net {ports} {{ y = Identity(x) }}')

    assert session_specs(session(model).get_inputs()) == Interface.of(model).inputs
