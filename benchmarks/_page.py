"""Figures of results by their place in them, and Markdown tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _results import Results, Table, load

from graphopt.metrics import Estimate

Place = Sequence[Any]
"""File, table, cell (or a part of it), row, column."""
MARK = " †"
FILES = (
    *("blocks", "decode", "encoder", "encoder_limits", "loop", "rates", "roofline"),
    *("speculate", "verify_cost", "vision"),
)
"""Of docs/performance.md. Of what documents other than this show there may be files, too."""
COMPRESSION = ("allocation", "cost", "decode", "long", "quality")
"""Of docs/compression.md."""
PROMPTS = (32, 256, 2048)
SHAPES = {
    "qwen2.5-0.5b": "Qwen2.5-0.5B's shape",
    "llama-3.2-1b": "Llama-3.2-1B's shape",
    "llama-3.2-3b": "Llama-3.2-3B's shape",
}


class Figures:
    """The results in a folder, of these files."""

    def __init__(self, folder: Path, goals: Path, files: Sequence[str] = FILES) -> None:
        paths = [folder / f"{name}.json" for name in files]
        self.files: dict[str, Results] = {path.stem: load(path) for path in paths if path.is_file()}
        self.goals = json.loads(goals.read_text(encoding="utf-8"))

    def table(self, file: str, name: str, row: str | None = None, **cell: Any) -> Table:
        return self.files[file].find(name, row, **cell)

    def at(self, place: Place) -> Any:
        """The cell of a row at a place."""
        file, name, cell, row, column = place
        return self.table(file, name, row, **cell).row(row)[column]

    def row(self, file: str, name: str, row: str, **cell: Any) -> dict[str, Any] | None:
        """The row of a table, either of which may not be there: None then."""
        if file not in self.files:
            return None
        try:
            return self.table(file, name, row, **cell).row(row)
        except KeyError:
            return None

    def get(self, file: str, name: str, row: str, column: str, **cell: Any) -> Any:
        """The same where it may not be measured: None then."""
        found = self.row(file, name, row, **cell)
        return None if found is None else found.get(column)

    def say(self, file: str, name: str, row: str, column: str, digits: int = 2, **cell: Any) -> str:
        """As text, with its interval."""
        return said(self.at((file, name, cell, row, column)), digits)

    def note(self, file: str, beginning: str) -> str:
        """The note of a file that begins so."""
        return next(note for note in self.files[file].notes if note.startswith(beginning))

    def command(self, file: str, name: str, row: str | None = None, **cell: Any) -> str:
        return self.table(file, name, row, **cell).command

    def machines(self, *files: str) -> list[str]:
        """Those that these files (or all) were measured on."""
        return sorted({table.machine for file in self.chosen(*files).values() for table in file.tables})

    def chosen(self, *files: str) -> dict[str, Results]:
        return {name: file for name, file in self.files.items() if not files or name in files}

    def versions(self, *files: str) -> str:
        found = {
            (name, version)
            for file in self.chosen(*files).values()
            for table in file.tables
            for name, version in table.versions.items()
        }
        return ", ".join(f"{name} {version}" for name, version in sorted(found))


def said(value: Any, digits: int = 2) -> str:
    match value:
        case None:
            return ""
        case Estimate():
            return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
        case float():
            return f"{value:.{digits}f}"
    return str(value)


def middle_of(value: Any) -> Any:
    return value.value if isinstance(value, Estimate) else value


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def goals(figures: Figures) -> str:
    rows = []
    for goal in figures.goals:
        found = []
        for one in goal["measured"]:
            value = figures.at(one["at"])
            middle = middle_of(value)
            met = middle <= goal["goal"] if goal.get("most") else middle >= goal["goal"]
            text = said(value, goal.get("digits", 2))
            text = text if met else f"**{text}**"
            found.append(f"{text} {one['when']}" if "when" in one else text)
        aim = goal.get("aim", "")
        if isinstance(aim, Mapping):
            aim = f"{aim['whose']}: {middle_of(figures.at(aim['at'])):g}"
        rows.append([goal["what"], f"{goal['goal']:g}", str(aim), "; ".join(found)])
    return markdown(["", "goal", "aim", "measured"], rows)


def generation(figures: Figures, peers: Sequence[str], shape: str, batch: int, prompt: int) -> str:
    """Everyone's speed, load time and memory; a mark on those whose run was another than the first's."""
    rows, marked = [], ""
    cell = {"shape": shape, "batch": batch, "prompt": prompt}
    first = figures.table("decode", "speed", peers[0], **cell)
    for peer in peers:
        table = figures.table("decode", "speed", peer, **cell)
        row = table.row(peer)
        if "failed" in row:
            rows.append([peer, str(row["failed"]), *[""] * 5])
            continue
        ratios = [said(row.get(key)) or "1" for key in ("prefill_ratio", "decode_ratio")]
        words = [said(row["prefill"], 0), said(row["decode"], 1), *ratios, said(row["load_s"], 1)]
        rows.append([peer + ("" if table is first else MARK), *words, said(row["peak_mb"], 0)])
        if table is not first:
            ours = table.row(peers[0])
            speeds = f"read {said(ours['prefill'], 0)} tok/s and wrote {said(ours['decode'], 1)}"
            marked = f"\n\n{MARK.strip()} In another run, in which {peers[0]} {speeds}; the ratios are its."
    header = ["", "reads tok/s", "writes tok/s", "reading: graphopt is", "writing: graphopt is", "load s"]
    return markdown([*header, "peak MB"], rows) + marked


def plain(table: Table, columns: Mapping[str, tuple[str, int]]) -> str:
    """A table's own rows, these columns of them under these heads."""
    rows = [
        [str(row[table.key]), *(said(row.get(c), d) for c, (_, d) in columns.items())] for row in table.rows
    ]
    return markdown(["", *(head for head, _ in columns.values())], rows)


BOUNDS = ("token_mb", "read", "token", "reading_share", "prompt", "computing_share")


def bounds(figures: Figures, shape: str) -> str:
    """Quantities by run: the machine's memory is not equally fast in all of them."""
    runs = [t for t in figures.files["roofline"].tables if (t.name, t.cell["shape"]) == ("bounds", shape)]
    rows = []
    for run in sorted(runs, key=lambda run: run.row("read")["value"].value):
        found = [run.row(name) for name in BOUNDS]
        values = [said(row["value"], 0 if row["quantity"] == "prompt" else 1) for row in found]
        rows.append([str(run.cell.get("label", run.date)), *values])
    return markdown(["", *(f"{row['what']}, {row['unit']}" for row in found)], rows)


def verdicts(figures: Figures) -> str:
    """What became of the edits."""
    rows = figures.table("verify_cost", "edits").rows
    return (
        f"{sum(row['edits'] for row in rows)} edits: "
        + ", ".join(f"{row['edits']} {row['verdict']}" for row in rows)
        + "."
    )


def encoders(figures: Figures, peers: Sequence[str]) -> str:
    """Both models in the largest of the common calls, and what a recipe costs."""
    models = {"minilm": "all-MiniLM-L6-v2", "bert-base": "BERT-base's shape"}
    rows = []
    for peer in peers:
        row = [peer]
        for model in models:
            cell = {"model": model, "batch": 32, "tokens": 128, "ragged": False}
            found = [figures.get("encoder", "speed", peer, key, **cell) for key in ("ms", "over_exported")]
            row += [said(found[0], 1), said(found[1]) or "1"]
        rows.append([*row, said(figures.get("encoder", "cosine", peer, "cosine", model="minilm"), 4)])
    header = [f"{name}: {head}" for name in models.values() for head in ("ms, 32 x 128", "times as fast")]
    return markdown(["", *header, "MiniLM: least sentence cosine"], rows)


def sources(figures: Figures, *files: str) -> str:
    """These files (or all), and when what is in each was measured."""
    found = []
    for name, file in figures.chosen(*files).items():
        days = sorted({table.date for table in file.tables})
        when = " to ".join(dict.fromkeys([days[0], days[-1]]))
        found.append(f"[{name}](../benchmarks/results/{name}.json) ({when})")
    return ", ".join(found)
