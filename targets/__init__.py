"""The built-in targets."""

from __future__ import annotations

from pathlib import Path

from graphopt.plugins import Pack
from graphopt.targets import described

from ._lint import RULES
from .cpu import CpuTarget
from .openvino import OpenVinoTarget
from .portable import PortableTarget
from .qnn import QnnTarget
from .web import WebTarget

_DESCRIBED = ("cuda", "tensorrt", "tensorrt-rtx", "webgpu", "coreml", "directml", "migraphx")

PACK = Pack(
    targets=(
        CpuTarget,
        OpenVinoTarget,
        PortableTarget,
        QnnTarget,
        WebTarget,
        *(described(Path(__file__).with_name(f"{name}.toml")) for name in _DESCRIBED),
    ),
    rules=RULES,
)
