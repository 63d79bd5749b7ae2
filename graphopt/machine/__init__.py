"""What a machine can do: profiles, measured here or cited from data sheets."""

from graphopt.machine._files import (
    keep_profile,
    known_profile,
    load_profile,
    profile_names,
    read_profile,
    write_profile,
)
from graphopt.machine._measure import FULL, SMALL, Grid, measure, sample_memory
from graphopt.machine._memory import Stream
from graphopt.machine._profile import (
    AttentionRate,
    DecoderRate,
    Interval,
    MemorySample,
    OperatorRate,
    ProductRate,
    Profile,
    SetRate,
    Source,
    Tier,
)
from graphopt.machine._pulse import Pulse
from graphopt.machine._samples import with_memory

__all__ = [
    "FULL",
    "SMALL",
    "AttentionRate",
    "DecoderRate",
    "Grid",
    "Interval",
    "MemorySample",
    "OperatorRate",
    "ProductRate",
    "Profile",
    "Pulse",
    "SetRate",
    "Source",
    "Stream",
    "Tier",
    "keep_profile",
    "known_profile",
    "load_profile",
    "measure",
    "profile_names",
    "read_profile",
    "sample_memory",
    "with_memory",
    "write_profile",
]
