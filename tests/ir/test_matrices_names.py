"""What a weight is called once passes have changed it."""

from __future__ import annotations

from graphopt.ir import ConstantMatrix, constant_matrix, constant_table, parse


def test_a_changed_weight_goes_by_its_name_in_the_source() -> None:
    model = parse("""<ir_version: 10, opset_import: ["" : 23]>
    g (int64[N] ids, float[N,2] x) => (float[N,2] y, float[N,2] z)
    <float[2,2] "head~scaled~turned" = {1, 2, 3, 4}, float[2,2] "table~turned" = {1, 2, 3, 4}>
    { y = MatMul(x, "head~scaled~turned")  z = Gather("table~turned", ids) }""")
    product, gather = model.graph
    found, table = constant_matrix(product), constant_table(gather)
    assert isinstance(found, ConstantMatrix)
    assert table is not None
    assert (found.name, table[0]) == ("head", "table")
