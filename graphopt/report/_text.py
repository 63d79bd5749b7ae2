"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["bytes_change", "bytes_text", "number", "plural", "seconds_text"]

_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))


def number(value: float) -> str:
    """Three significant digits, without an exponent where a short plain form exists."""
    if value == 0 or 1e-4 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.1e}"


def _unit(size: int) -> tuple[str, int]:
    return next(((name, scale) for name, scale in _UNITS if size >= scale), ("B", 1))


def _scaled(size: int, scale: int) -> str:
    return (
        str(size) if scale == 1 else f"{size / scale:.3g}" if size < 1000 * scale else f"{size / scale:.0f}"
    )


def bytes_text(size: int) -> str:
    """`11.4 MB`."""
    name, scale = _unit(size)
    return f"{_scaled(size, scale)} {name}"


def bytes_change(before: int, after: int) -> str:
    """`45.6 → 11.4 MB`, or one size where no digit of it changed."""
    name, scale = _unit(max(before, after))
    old, new = _scaled(before, scale), _scaled(after, scale)
    return f"{new} {name}" if old == new else f"{old} → {new} {name}"


def seconds_text(seconds: float) -> str:
    """`0.3 s`, `41 s`, `3 min 20 s`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def plural(count: int, noun: str) -> str:
    """`1 edit`, `2 edits`, `2 passes`."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{ending}"
