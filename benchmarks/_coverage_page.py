"""The section of docs/coverage.md about exported nets: a table of them, and what was asked of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from _page import markdown, said
from _results import Row, Table, load

from graphopt.metrics import Estimate

TITLE = "## Exported nets"
_NODES = 1.05
"""How many of onnxslim's nodes a lossless package may have."""


def table_of(results: Path) -> Table | None:
    """What was measured, whenever that was, as one table; None where nothing was."""
    path = results / "coverage.json"
    tables = [table for table in load(path).tables if table.name == "nets"] if path.is_file() else []
    if not tables:
        return None
    rows = sorted((row for table in tables for row in table.rows), key=lambda row: str(row["net"]))
    return tables[-1].model_copy(update={"rows": rows, "date": max(table.date for table in tables)})


def replaced(page: str, text: str, title: str = TITLE) -> str:
    """`page` with the section of that title in place of the one that it has, or at its end."""
    head, _, rest = page.partition(f"{title}\n")
    _, heading, after = rest.partition("\n## ")
    return (head.rstrip() + "\n\n" + text.rstrip() + "\n" + heading + after).rstrip() + "\n"


def nets(table: Table) -> str:
    """A row for each net: the source, and what became of it."""
    header = [
        *("net", "exported by", "nodes", "lossless", "onnxslim", "kB", "lossless", "int8", "ms"),
        *("lossless: times as fast", "error", "int8: times as fast", "error", "cosine"),
    ]
    return markdown(header, [_row(row) for row in table.rows])


def _row(row: Row) -> list[str]:
    int8 = _quantizes(row)
    return [
        str(row["net"]),
        str(row["exported"]),
        *(_count(row, key) for key in ("nodes", "lossless_nodes", "slim_nodes")),
        *(_kilobytes(row, key) for key in ("bytes", "lossless_bytes")),
        _kilobytes(row, "int8_bytes") if int8 else "",
        said(row.get("ms"), 2),
        said(row.get("lossless_speed")),
        _error(row.get("lossless_error")),
        said(row.get("int8_speed")) if int8 else "",
        _error(row.get("int8_error")) if int8 else "",
        said(row.get("int8_cosine"), 4) if int8 else "",
    ]


def _count(row: Row, key: str) -> str:
    return said(row.get(key)) or "refused"


def _kilobytes(row: Row, key: str) -> str:
    size = row.get(key)
    return f"{size / 1e3:.1f}" if isinstance(size, int | float) else "refused"


def _error(value: object) -> str:
    return f"{value:.0e}" if isinstance(value, float) else str(value or "0")


def _quantizes(row: Row) -> bool:
    return bool(row.get("int8_quantized"))


def asked(table: Table) -> str:
    """What was asked of all nets, of how many it holds, and of which it does not."""
    slim = [row for row in table.rows if "slim_nodes" in row]
    int8 = [row for row in table.rows if _quantizes(row)]
    made = [row for row in table.rows if "lossless_nodes" in row]
    rows = [
        ["made, `lossless`", *_outcome(table.rows, lambda row: "lossless_nodes" in row)],
        ["made, `int8`", *_outcome(table.rows, lambda row: "int8_nodes" in row)],
        ["... and not left in floats", *_outcome(table.rows, _quantizes)],
        ["no larger than the source, `lossless`", *_outcome(made, lambda row: _is_small(row, "lossless"))],
        [
            "no larger than the source, `int8` where it quantizes",
            *_outcome(int8, lambda row: _is_small(row, "int8")),
        ],
        [
            "no slower than the source beyond noise, `lossless`",
            *_outcome(made, lambda row: _is_fast(row, "lossless")),
        ],
        ["... `int8` where it quantizes", *_outcome(int8, lambda row: _is_fast(row, "int8"))],
        [
            f"at most {_NODES:g} times as many nodes as onnxslim leaves, `lossless`",
            *_outcome(
                slim, lambda row: _number(row, "lossless_nodes") <= _NODES * _number(row, "slim_nodes")
            ),
        ],
    ]
    return markdown(["asked", "of nets", "holds for", "not for"], rows)


def _outcome(rows: Sequence[Row], holds: Callable[[Row], bool]) -> list[str]:
    not_for = [str(row["net"]) for row in rows if not holds(row)]
    return [str(len(rows)), str(len(rows) - len(not_for)), ", ".join(not_for)]


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, int | float) else float("inf")


def _is_small(row: Row, recipe: str) -> bool:
    return _number(row, f"{recipe}_bytes") <= _number(row, "bytes")


def _is_fast(row: Row, recipe: str) -> bool:
    """Whether it is no further from the source than the source may be from itself, in either direction."""
    speed, again = row.get(f"{recipe}_speed"), row.get("again_speed")
    if not isinstance(speed, Estimate) or not isinstance(again, Estimate):
        return False
    return speed.high >= min(again.low, 1 / again.high)


def refused(table: Table) -> str:
    """What was not made, and why, a line each."""
    said_ = {
        "lossless_refused": "lossless",
        "int8_refused": "int8",
        "int8_left_out": "int8, given up",
        "slim_refused": "onnxslim",
        "crashed": "its process",
    }
    failed = {
        "lossless_failed": "lossless, run",
        "int8_failed": "int8, run",
        "slim_failed": "onnxslim's, run",
    }
    lines = [
        f"- {row['net']}, {who}: {' '.join(str(row[key]).replace('|', '/').replace('<', '&lt;').split())}"
        for row in table.rows
        for key, who in (said_ | failed).items()
        if row.get(key)
    ]
    return "\n".join(lines) or "Nothing was refused."
