"""Weights that are not what they say."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import (
    make_node,
)
from onnx.numpy_helper import from_array

from tests.hostile.files._build import Built, damaged, external, ints, net, relu, with_weight


@damaged
def weight_of_a_gigantic_shape() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**62, 2**62], raw_data=bytes(16)))


@damaged
def weight_whose_size_overflows_to_nothing() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**32, 2**32], raw_data=b""))


@damaged
def weight_whose_size_overflows_to_what_it_has() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**62 + 1, 4], raw_data=bytes(16)))


@damaged
def weight_of_gigantic_and_zero_dims() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[2**62, 2**62, 0, 4], raw_data=b""))


@damaged
def weight_of_a_negative_shape() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[-2, -2], raw_data=bytes(16)))


@damaged
def weight_of_high_rank() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[1] * 100_000 + [4], raw_data=bytes(16)))


@damaged
def weight_of_an_unknown_dtype() -> Built:
    return with_weight(TensorProto(name="w", data_type=99, dims=[4], raw_data=bytes(16)))


@damaged
def weight_of_no_dtype() -> Built:
    return with_weight(TensorProto(name="w", data_type=0, dims=[4], raw_data=bytes(16)))


@damaged
def weight_of_a_negative_dtype() -> Built:
    return with_weight(TensorProto(name="w", data_type=-1, dims=[4], raw_data=bytes(16)))


@damaged
def weight_in_two_fields() -> Built:
    return with_weight(
        TensorProto(name="w", data_type=1, dims=[4], raw_data=bytes(16), float_data=[1.0, 2.0, 3.0, 4.0])
    )


@damaged
def weight_in_the_wrong_field() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[4], int64_data=[1, 2, 3, 4]))


@damaged
def weight_without_data() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[4]))


@damaged
def weight_of_too_few_numbers() -> Built:
    return with_weight(TensorProto(name="w", data_type=1, dims=[4], float_data=[1.0]))


@damaged
def text_weight_in_raw_bytes() -> Built:
    return with_weight(TensorProto(name="w", data_type=TensorProto.STRING, dims=[1], raw_data=b"text"))


@damaged
def text_weight_of_too_few_texts() -> Built:
    weight = TensorProto(name="w", data_type=TensorProto.STRING, dims=[2**40], string_data=[b"text"])
    return net(make_node("Relu", ["x"], ["y"]), weights=[weight])


@damaged
def segmented_weight() -> Built:
    weight = from_array(np.ones(4, np.float32), "w")
    weight.segment.begin, weight.segment.end = 0, 2**62
    return with_weight(weight)


@damaged
def sparse_weight() -> Built:
    model = relu()
    values, indices = from_array(np.ones(1, np.float32), "s"), ints("i", 2**62)
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [2**62]))
    return model


@damaged
def sparse_constant() -> Built:
    values, indices = from_array(np.ones(1, np.float32), "s"), ints("i", 2**62)
    sparse = onnx.helper.make_sparse_tensor(values, indices, [2**62])
    constant = make_node("Constant", [], ["c"], sparse_value=sparse)
    return net(constant, make_node("Relu", ["x"], ["y"]))


@damaged
def external_data_past_the_end() -> Built:
    return external(offset=2**62)


@damaged
def external_data_at_an_overflowing_offset() -> Built:
    return external(offset=2**64)


@damaged
def external_data_at_an_absurd_offset() -> Built:
    return external(offset="9" * 5000)


@damaged
def external_data_at_a_negative_offset() -> Built:
    return external(offset=-16)


@damaged
def external_data_of_the_wrong_length() -> Built:
    return external(offset=0, length=4)


@damaged
def external_data_of_a_gigantic_shape() -> Built:
    return external(dims=[2**62, 2**62])


@damaged
def external_data_in_a_device() -> Built:
    return external(location="/dev/zero", dims=[2**30])


@damaged
def external_data_in_the_model_itself() -> Built:
    return external(location="net.onnx", dims=[2**20])


@damaged
def external_data_without_a_location() -> Built:
    weight = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    return with_weight(weight)


@damaged
def external_text() -> Built:
    model = external(dims=[1])
    model.graph.initializer[0].data_type = TensorProto.STRING
    return model
