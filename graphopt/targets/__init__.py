"""What a target says about itself: what it can run, how graphs are lowered for it, and how it runs them.

Importing this room loads no runtime; methods that need one import it.
"""

from graphopt.targets._capabilities import Capabilities, Remark, Unsupported
from graphopt.targets._described import DescribedTarget, described
from graphopt.targets._description import Description, OperatorTables, Sizes, Wheels
from graphopt.targets._diagnosis import Diagnosis
from graphopt.targets._foreign import ForeignTarget
from graphopt.targets._operator_table import KernelForm, OperatorTable
from graphopt.targets._probe import changes as table_changes
from graphopt.targets._registered import RegisteredKernels
from graphopt.targets._target import BlockProduct, CompileReport, LoadedKind, LoadedNode, Target
from graphopt.targets._trial import node_runs

__all__ = [
    "BlockProduct",
    "Capabilities",
    "CompileReport",
    "DescribedTarget",
    "Description",
    "Diagnosis",
    "ForeignTarget",
    "KernelForm",
    "LoadedKind",
    "LoadedNode",
    "OperatorTable",
    "OperatorTables",
    "RegisteredKernels",
    "Remark",
    "Sizes",
    "Target",
    "Unsupported",
    "Wheels",
    "described",
    "node_runs",
    "table_changes",
]
