"""What a target really computes floats in, by how far a product of matrices is off on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import BadInput
from graphopt.evaluate._bindings import SEED
from graphopt.runtime import RECORDED, with_options
from graphopt.targets import Target

__all__ = ["Precision", "probed_precision"]

Form = Literal["float32", "float16", "bfloat16", "other", "unknown"]
Floats = NDArray[np.float32]

ROWS, INNER, COLUMNS = 64, 256, 64
"""Large enough for the kernels of a model's products, and small for a simulator of a device."""
EXACT = 1e-5
"""Of the result's size: float32 sums of 256 products are off by 2e-7, float16's by 3e-4."""
_EXPLAINED = 0.5
"""A form is told by its own numbers where what these leave unexplained is at most half of the error."""
_ALIKE = 2.0
"""Else by its error, within so many times: neighbouring forms are eight times apart."""
_ROUNDED: dict[Form, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Precision:
    """The form that float32 is computed in, and the error of a product, root mean square, in its results'.

    "float16" is its ten bits, which TensorFloat-32 has, too. "other" is further from float32 than float16 and
    like none of the forms; "unknown" could not be tried, for `reason`.
    """

    form: Form
    error: float = 0.0
    reason: str = ""

    @property
    def silent(self) -> bool:
        """Whether it is less than the graph says."""
        return self.form not in ("float32", "unknown")

    def __str__(self) -> str:
        if self.form == "unknown":
            return f"not known: {self.reason}"
        if self.form == "other":
            return f"less than float32: a product is off by {self.error:.1g} of its size"
        off = f", a product is off by {self.error:.1g} of its size" if self.silent else ""
        return f"{self.form}{off}"


def probed_precision(target: Target) -> Precision:
    """What `target` computes a float32 product of random matrices in.

    It is compared with the exact product, and with those of operands, of results and of both that are rounded
    to each form.
    """
    rng = np.random.default_rng(SEED)
    a = rng.standard_normal((ROWS, INNER)).astype(np.float32)
    b = rng.standard_normal((INNER, COLUMNS)).astype(np.float32)
    try:
        return judged(a, b, _product(target, a, b))
    except BadInput as error:
        return Precision("unknown", reason=error.message)


def judged(a: Floats, b: Floats, got: NDArray[Any]) -> Precision:
    """What `got`, the product of `a` and `b`, was computed in."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    error = _distance(got, exact, exact)
    if error <= EXACT:
        return Precision("float32", error)
    residual, form = min((_distance(got, y, exact), form) for form in _ROUNDED for y in _rounded(a, b, form))
    if residual <= _EXPLAINED * error:
        return Precision(form, error)
    for form in _ROUNDED:
        level = max(_distance(y, exact, exact) for y in _rounded(a, b, form))
        if level / _ALIKE <= error <= level * _ALIKE:
            return Precision(form, error)
    return Precision("other", error)


def _rounded(a: Floats, b: Floats, form: Form) -> Iterator[NDArray[np.float64]]:
    def to(array: NDArray[Any]) -> NDArray[np.float64]:
        return array.astype(np.float32).astype(_ROUNDED[form]).astype(np.float64)

    operands = to(a) @ to(b)
    yield from (operands, to(a.astype(np.float64) @ b), to(operands))


def _distance(one: NDArray[Any], other: NDArray[Any], size: NDArray[Any]) -> float:
    """Root mean square of the difference, over that of `size`."""
    return float(np.sqrt(np.mean((one - other) ** 2) / np.mean(size**2)))


def _product(target: Target, a: Floats, b: Floats) -> NDArray[Any]:
    """`a` times `b` on `target`. `BadInput` where its provider does not take that."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"], name="product")],
        "probe",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, a.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (ROWS, COLUMNS))],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "probe.onnx")
        target.compile(ir.serde.deserialize_model(model), path)
        with with_options(lambda options: options.add_session_config_entry(RECORDED, "1")):
            session = target.session(path)
        if _fell_back(session, target.provider):
            raise BadInput(f"{target.provider} does not take a product of matrices")
        (got,) = session.run(["y"], {"a": a})
    return np.asarray(got, np.float64)


def _fell_back(session: Any, provider: str) -> bool:
    """Whether a node is on another provider; one that does not tell is trusted."""
    try:
        assigned = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return False
    return any(part.ep_name != provider for part in assigned)
