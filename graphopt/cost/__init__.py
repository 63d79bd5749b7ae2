"""What a graph costs on a machine: its work by node, and times, memory and dollars predicted from it."""

from graphopt.cost._decoder import decoder_work
from graphopt.cost._decoder_shape import DecoderShape
from graphopt.cost._dims import Dim, Shape
from graphopt.cost._form import Form
from graphopt.cost._forms import with_forms
from graphopt.cost._graph import flops_by_node, work_of
from graphopt.cost._named import SHAPE_SOURCES, SHAPES
from graphopt.cost._package import (
    DOCUMENT,
    NODE,
    data_bytes,
    package_bytes,
    package_interval,
    weight_bytes,
)
from graphopt.cost._peak import peak_memory
from graphopt.cost._predict import Step, call_of, predict, product_seconds
from graphopt.cost._prediction import Bound, Prediction, Situation
from graphopt.cost._queue import Queue, queue_of
from graphopt.cost._record import History, MetricHistory, Outcome, history_of, outcomes, record
from graphopt.cost._split import Split, tensor_parallel
from graphopt.cost._work import Call, GraphWork, Heads, NodeWork, Product, Result, Use, Weight

__all__ = [
    "DOCUMENT",
    "NODE",
    "SHAPES",
    "SHAPE_SOURCES",
    "Bound",
    "Call",
    "DecoderShape",
    "Dim",
    "Form",
    "GraphWork",
    "Heads",
    "History",
    "MetricHistory",
    "NodeWork",
    "Outcome",
    "Prediction",
    "Product",
    "Queue",
    "Result",
    "Shape",
    "Situation",
    "Split",
    "Step",
    "Use",
    "Weight",
    "call_of",
    "data_bytes",
    "decoder_work",
    "flops_by_node",
    "history_of",
    "outcomes",
    "package_bytes",
    "package_interval",
    "peak_memory",
    "predict",
    "product_seconds",
    "queue_of",
    "record",
    "tensor_parallel",
    "weight_bytes",
    "with_forms",
    "work_of",
]
