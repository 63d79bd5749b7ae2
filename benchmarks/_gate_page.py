"""docs/gates.md: its marked section, written from benchmarks/results/gates.json."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["rendered", "write_page"]

BEGIN = "<!-- written by benchmarks/gates.py from benchmarks/results/gates.json: begin -->"
END = "<!-- end -->"
MISSING = "not measured yet"
VERDICTS = ("pass", "fail", "inconclusive")

Row = dict[str, Any]
Tables = dict[str, dict[str, Any]]


def write_page(page: Path, results: Path) -> None:
    """Write the marked section of `page` anew."""
    page.write_text(rendered(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def rendered(page: str, results: Path) -> str:
    """`page` with the section that `results` say."""
    before, rest = page.split(BEGIN)
    after = rest.split(END, 1)[1]
    tables = {table["name"]: table for table in json.loads(results.read_text(encoding="utf-8"))["tables"]}
    parts = [
        _goals(tables),
        _planted(tables),
        _speed(tables),
        _texts(tables),
        _coverage(tables),
        _choices(tables),
        _cut(tables),
        _origin(tables),
    ]
    return f"{before}{BEGIN}\n" + "\n".join(part.strip("\n") + "\n" for part in parts) + f"\n{END}{after}"


def _goals(tables: Tables) -> str:
    equal, slower = _row(tables["no change"], "all"), _row(tables["slower"], "all")
    worse = _row(tables["divergence"], "1.1x, over the baseline's")
    blocks, documents = (_covered(tables[f"coverage of {what}"]) for what in ("blocks", "documents"))
    noisiest = _row(tables["no change"], "CV 10%")
    false = f"{_percent(equal['fail'])} fail, {_percent(equal['inconclusive'])} inconclusive"
    false += f" (at CV 10 % alone {_percent(noisiest['inconclusive'])})"
    rows = [
        (
            f"false alarms: {equal['gates']:,} simulated speed gates, nothing changed, CV 2 to 10 %",
            "≤ 1 % fail, ≤ 15 % inconclusive",
            "≤ 0.5 % fail",
            false,
        ),
        (
            f"power: {slower['gates']:,} simulated speed gates, 10 % slower, CV 3 %, within 20 blocks",
            "≥ 95 % found",
            "≥ 99 %",
            f"{_percent(slower['fail'])} found",
        ),
        (
            f"power: {worse['gates']:,} gates of a KL divergence that is 10 % worse, 16,384 tokens",
            "≥ 90 % found",
            "≥ 99 %",
            f"{_percent(worse['fail'])} found",
        ),
        ("this machine: a package against itself", "0 fail, ≤ 8 of 30 inconclusive", "≤ 3", _equals(tables)),
        ("seconds of a gate of accuracy on tiny-coder, warm", "≤ 20", "≤ 10", _seconds(tables)),
        ("coverage of intervals of 95 %, 5 to 20 blocks", "92 to 98 %", "94 to 96 %", blocks),
        ("the same, 16 and 64 documents", "92 to 98 %", "94 to 96 %", documents),
    ]
    return _table(("", "must", "aim", "measured"), rows)


def _equals(tables: Tables) -> str:
    if "equals here" not in tables:
        return MISSING
    rows = tables["equals here"]["rows"]
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    return f"of {len(rows)}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def _seconds(tables: Tables) -> str:
    if "seconds of an accuracy gate" not in tables:
        return MISSING
    seconds = [row["seconds"] for row in tables["seconds of an accuracy gate"]["rows"]]
    return f"{min(seconds):.1f} to {max(seconds):.1f}, {len(seconds)} times"


def _planted(tables: Tables) -> str:
    text = "\n### Regressions that were planted\n\n"
    if "planted" not in tables:
        return text + MISSING
    text += "In copies of a package, gated beside it by the command line; by speed too where that is "
    text += "planted, and in a copy where nothing is:\n\n"
    rows = [
        (row["package"], row["planted"], row["exit"], row["about"], row["failed"])
        for row in tables["planted"]["rows"]
    ]
    return text + _table(("package", "planted", "exit code", "the gate about it", "gates that failed"), rows)


def _covered(table: dict[str, Any]) -> str:
    """The mean over all cases, and the least and the most of them."""
    values = [row["graphopt"]["value"] for row in table["rows"]]
    mean = statistics.fmean(values)
    return f"{mean:.1f} % over {len(values)} cases, which have {min(values):.1f} to {max(values):.1f} %"


def _speed(tables: Tables) -> str:
    bound, blocks = tables["no change"]["cell"]["bound"], tables["no change"]["cell"]["most"]
    text = f"\n### Speed: `tpot <= {bound}x`, {blocks} blocks at most\n\n"
    text += "Nothing has changed:\n\n" + _verdicts(tables["no change"])
    text += "\nThe package is 1.1 times as slow, CV 3 %, at most 20 blocks:\n\n" + _verdicts(tables["slower"])
    text += f"\nThe package is {bound} times as slow, just the bound, CV 3 %. "
    text += "Each of the two answers may be given in 2.5 % of gates:\n\n"
    text += _verdicts(tables["at the bound"])
    text += "\nSix gates at once, all just at the bound. How often at least one of them fails:\n\n"
    rows = [(row["correction"], _interval(row["fail"])) for row in tables["six gates"]["rows"]]
    return text + _table(("correction", "fail, %"), rows)


def _verdicts(table: dict[str, Any]) -> str:
    rows = [
        (row["machine"], f"{row['gates']:,}", *(_interval(row[v]) for v in VERDICTS), f"{row['blocks']:g}")
        for row in table["rows"]
    ]
    return _table(("machine", "gates", *(f"{v}, %" for v in VERDICTS), "blocks, median"), rows)


def _texts(tables: Tables) -> str:
    bound = tables["divergence"]["cell"]["bound"]
    text = f"\n### Accuracy: `kl_mean <= {bound}x` on 16,384 tokens\n\n"
    text += f"The same bound *by itself* is written as a number, {bound} times what the baseline truly has. "
    text += "How hard documents are cancels in a ratio, and not in a number.\n\n"
    rows = [
        (row["kind"], f"{row['worse']:g}x", f"{row['gates']:,}", *(_interval(row[v]) for v in VERDICTS))
        for row in tables["divergence"]["rows"]
    ]
    return text + _table(("gated", "truth", "gates", *(f"{v}, %" for v in VERDICTS)), rows)


def _coverage(tables: Tables) -> str:
    text = "\n### How often an interval of 95 % holds the truth, in %\n\n"
    for what in ("blocks", "documents"):
        rows = tables[f"coverage of {what}"]["rows"]
        methods = list(dict.fromkeys(key for row in rows for key in row if isinstance(row[key], dict)))
        cells = [(row["case"], *(_interval(row[m]) if m in row else "" for m in methods)) for row in rows]
        text += _table(("", *methods), cells) + "\n"
    return text


def _cut(tables: Tables) -> str:
    blocks = tables["a tenth cut off"]["cell"]["blocks"]
    text = "\n### What cutting off a tenth costs and saves\n\n"
    text += f"Length of intervals of {blocks} blocks, CV 5 %, in those of Student's t of all blocks:\n\n"
    rows = [(row["machine"], row["length"]) for row in tables["a tenth cut off"]["rows"]]
    return text + _table(("machine", "length"), rows)


def _choices(tables: Tables) -> str:
    text = "\n### Other bounds and other numbers of blocks\n\n"
    text += "Nothing has changed, CV 2 to 10 %; and 1.1 times as slow, CV 3 %, within 20 blocks:\n\n"
    rows = [
        (
            f"{row['bound']}x",
            row["most"],
            *(_interval(row[v]) for v in ("fail", "inconclusive")),
            f"{row['blocks']:g}",
            _interval(row["found"]),
        )
        for row in tables["choices"]["rows"]
    ]
    head = ("bound", "blocks at most", "fail, %", "inconclusive, %", "blocks, median", "slowdown found, %")
    return text + _table(head, rows)


def _origin(tables: Tables) -> str:
    """Where the figures come from: once for each command."""
    lines = dict.fromkeys(
        f"`{t['command']}`, {t['date']}, {t['notes'][0]}, on {t['machine']}; "
        + ", ".join(f"{name} {version}" for name, version in t["versions"].items())
        for t in tables.values()
    )
    brackets = "In brackets: the exact binomial interval of 95 % (Clopper and Pearson 1934)."
    return "\n" + brackets + " Made by\n\n" + "".join(f"- {line}.\n" for line in lines) + "\n"


def _row(table: dict[str, Any], name: str) -> Row:
    return next(row for row in table["rows"] if row[table["key"]] == name)


def _percent(share: dict[str, float]) -> str:
    return f"{share['value']:.1f} % [{share['low']:.1f}, {share['high']:.1f}]"


def _interval(share: dict[str, float]) -> str:
    return f"{share['value']:.1f} [{share['low']:.1f}, {share['high']:.1f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
