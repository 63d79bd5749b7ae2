"""Opsets, domains, names and functions."""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto
from onnx.helper import (
    make_function,
    make_node,
    make_opsetid,
)

from tests.hostile.files._build import Built, damaged, external, floats, legal, net, relu, unrunnable


@damaged
def opset_zero() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), opset=0)


@damaged
def opset_of_the_far_future() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), opset=10**9)


@damaged
def negative_opset() -> Built:
    return net(make_node("Relu", ["x"], ["y"]), opset=-1)


@damaged
def two_opsets_of_one_domain() -> Built:
    model = net(make_node("Relu", ["x"], ["y"]), opset=23)
    model.opset_import.append(make_opsetid("", 13))
    return model


@damaged
def two_spellings_of_one_domain() -> Built:
    model = net(make_node("Relu", ["x"], ["y"]), opset=23)
    model.opset_import.append(make_opsetid("ai.onnx", 13))
    return model


@damaged
def domain_that_is_not_imported() -> Built:
    return net(make_node("Relu", ["x"], ["y"], domain="nobody"))


@unrunnable
def operator_of_an_unknown_domain() -> Built:
    model = net(make_node("Mystery", ["x"], ["y"], domain="nobody"))
    model.opset_import.append(make_opsetid("nobody", 10**9))
    return model


@damaged
def operator_that_does_not_exist() -> Built:
    return net(make_node("Mystery", ["x"], ["y"]))


@damaged
def node_without_an_operator() -> Built:
    return net(make_node("", ["x"], ["y"]))


@damaged
def ir_version_of_the_far_future() -> Built:
    model = relu()
    model.ir_version = 2**40
    return model


@damaged
def no_ir_version() -> Built:
    model = relu()
    model.ClearField("ir_version")
    return model


@damaged
def opset_of_a_runtime_domain_of_the_far_future() -> Built:
    model = net(make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft"))
    model.opset_import.append(make_opsetid("com.microsoft", 2**62))
    return model


@damaged
def name_that_is_not_text() -> Built:
    return (
        net(make_node("Relu", ["x"], ["middle"]), make_node("Relu", ["middle"], ["y"]))
        .SerializeToString()
        .replace(b"middle", b"mi\xff\xfele")
    )


@damaged
def operator_that_is_not_text() -> Built:
    return relu().SerializeToString().replace(b"Relu", b"\xff\xfe\xfd\xfc")


@damaged
def domain_that_is_not_text() -> Built:
    model = net(make_node("Relu", ["x"], ["y"], domain="nobody"))
    model.opset_import.append(make_opsetid("nobody", 1))
    return model.SerializeToString().replace(b"nobody", b"no\xff\xfedy")


@damaged
def dimension_that_is_not_text() -> Built:
    model = net(make_node("Relu", ["x"], ["y"]), inputs=[floats("x", "batch", 4)])
    return model.SerializeToString().replace(b"batch", b"ba\xff\xfeh")


@damaged
def external_location_that_is_not_text() -> Built:
    return external(location="net.data").SerializeToString().replace(b"net.data", b"net\xff\xfeata")


def calling(*functions: onnx.FunctionProto, name: str = "f0") -> ModelProto:
    model = net(make_node(name, ["x"], ["y"], domain="own"))
    model.opset_import.append(make_opsetid("own", 1))
    model.functions.extend(functions)
    return model


def function(name: str, *nodes: NodeProto) -> onnx.FunctionProto:
    opsets = [make_opsetid("", 23), make_opsetid("own", 1)]
    return make_function("own", name, ["a"], ["b"], list(nodes), opsets)


@damaged
def function_that_calls_itself() -> Built:
    return calling(function("f0", make_node("f0", ["a"], ["b"], domain="own")))


@damaged
def functions_that_call_each_other() -> Built:
    return calling(
        function("f0", make_node("f1", ["a"], ["b"], domain="own")),
        function("f1", make_node("f0", ["a"], ["b"], domain="own")),
    )


@damaged
def function_given_twice() -> Built:
    once = function("f0", make_node("Relu", ["a"], ["b"]))
    return calling(once, once)


@damaged
def function_that_makes_no_output() -> Built:
    return calling(function("f0", make_node("Relu", ["a"], ["c"])))


@damaged
def function_without_a_name() -> Built:
    return calling(function("", make_node("Relu", ["a"], ["b"])), name="")


@legal
def functions_that_double_eight_times() -> Built:
    """256 nodes once inlined, of 17."""
    made = [
        function(
            f"f{i}",
            make_node(f"f{i + 1}", ["a"], ["m"], domain="own"),
            make_node(f"f{i + 1}", ["m"], ["b"], domain="own"),
        )
        for i in range(8)
    ]
    return calling(*made, function("f8", make_node("Relu", ["a"], ["b"])))
