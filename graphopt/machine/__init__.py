"""What a machine can do: profiles, measured here or cited from data sheets."""

from graphopt.machine._profile import (
    AttentionRate,
    Interval,
    OperatorRate,
    ProductRate,
    Profile,
    Source,
    Tier,
)

__all__ = ["AttentionRate", "Interval", "OperatorRate", "ProductRate", "Profile", "Source", "Tier"]
