"""The charts of docs/performance.md, and which rows its tables have."""

from __future__ import annotations

from typing import Any

from _charts import Chart, Panel, Series
from _page import PROMPTS, SHAPES, Figures

OURS = "graphopt int4"
CONTROL = f"{OURS} again"
PEERS = (
    "llama.cpp Q4_0",
    "llama.cpp Q4_K_M",
    "genai builder, tuned, block 128",
    "genai builder, tuned, block 32",
    "genai builder, defaults",
    "transformers exporter, fp32",
    "torch eager, bf16",
    CONTROL,
)
LARGE = "llama-3.2-1b"
PACKAGE = "llama-1b-int4"
"""The package of that shape, as the commands that measure it call it."""
ENCODERS = (
    "graphopt int8",
    "graphopt int8 again",
    "graphopt lossless",
    "onnxruntime.transformers, quantize_dynamic",
    "OpenVINO int8",
    "torch.compile fp32",
    "torch eager fp32",
)
EXPORTED = "onnxruntime fp32, as exported"
CALLS = ((1, 128, False), (32, 128, False), (32, 128, True))


def charts(figures: Figures) -> list[Chart]:
    return [
        generation(figures),
        shapes(figures),
        memory(figures),
        encoders(figures),
        operators(figures),
        rows(figures),
        drafts(figures),
    ]


def label(peer: str) -> str:
    return f"{peer} (A/A)" if peer.endswith(" again") else peer


def points(found: dict[str, Any]) -> dict[str, Any]:
    return {row: value for row, value in found.items() if value is not None}


def generation(figures: Figures) -> Chart:
    """One shape, one text at a time, beside everyone."""

    def series(column: str, prompt: int) -> Series:
        cell = {"shape": LARGE, "batch": 1, "prompt": prompt}
        found = {label(peer): figures.get("decode", "speed", peer, column, **cell) for peer in PEERS}
        return Series(f"{prompt} tokens of prompt", points(found))

    panels = [
        Panel(title, [series(column, prompt) for prompt in PROMPTS], "times as fast")
        for title, column in (
            ("Reading a prompt: graphopt int4 is", "prefill_ratio"),
            ("Writing after it: graphopt int4 is", "decode_ratio"),
        )
    ]
    title = f"How many times as fast graphopt int4 is, {SHAPES[LARGE]}, one text"
    return Chart("generation", title, [label(peer) for peer in PEERS], panels, [label(CONTROL)])


def shapes(figures: Figures) -> Chart:
    """Sizes of model, and one text or four, beside the two that are closest."""
    cells = {
        f"{SHAPES[shape].removesuffix(chr(39) + 's shape')}, {count}": {
            "shape": shape,
            "batch": batch,
            "prompt": 256,
        }
        for shape in SHAPES
        for batch, count in ((1, "one text"), (4, "four texts"))
    }
    peers = ("llama.cpp Q4_0", "genai builder, tuned, block 128", CONTROL)

    def series(column: str, peer: str) -> Series:
        found = {row: figures.get("decode", "speed", peer, column, **cell) for row, cell in cells.items()}
        return Series(label(peer), points(found), control=peer == CONTROL)

    panels = [
        Panel(title, [series(column, peer) for peer in peers], "times as fast")
        for title, column in (
            ("Reading 256 tokens: graphopt int4 is", "prefill_ratio"),
            ("Writing after them: graphopt int4 is", "decode_ratio"),
        )
    ]
    return Chart("shapes", "How many times as fast graphopt int4 is, by model and batch", list(cells), panels)


def memory(figures: Figures) -> Chart:
    peers = (OURS, *PEERS[:-1])

    def series(column: str, prompt: int, scale: float) -> Series:
        cell = {"shape": LARGE, "batch": 1, "prompt": prompt}
        found = points({peer: figures.get("decode", "speed", peer, column, **cell) for peer in peers})
        return Series(f"{prompt} tokens of prompt", {row: value / scale for row, value in found.items()})

    panels = [
        Panel(title, [series(column, prompt, scale) for prompt in PROMPTS], unit, ratio=False, bars=True)
        for title, column, scale, unit in (
            ("Peak memory", "peak_mb", 1000, "GB"),
            ("Loading", "load_s", 1, "s"),
        )
    ]
    return Chart("memory", f"Peak memory and time to load, {SHAPES[LARGE]}, one text", peers, panels)


def encoders(figures: Figures) -> Chart:
    names = {True: ", unequal", False: ""}

    def series(model: str, batch: int, tokens: int, ragged: bool) -> Series:
        cell = {"model": model, "batch": batch, "tokens": tokens, "ragged": ragged}
        found = {label(p): figures.get("encoder", "speed", p, "over_exported", **cell) for p in ENCODERS}
        return Series(f"{batch} x {tokens} tokens{names[ragged]}", points(found))

    panels = [
        Panel(title, [series(model, *call) for call in CALLS], "times as fast")
        for title, model in (("all-MiniLM-L6-v2", "minilm"), ("BERT-base's shape", "bert-base"))
    ]
    rows = [label(peer) for peer in ENCODERS]
    title = "How many times as fast as onnxruntime in fp32, as exported"
    return Chart("encoders", title, rows, panels, [label(ENCODERS[1])])


def operators(figures: Figures) -> Chart:
    table = figures.table("roofline", "operators", shape=LARGE)
    found = [row for row in table.rows if "reading_percent" in row]
    names = [str(row["operator"]) for row in found]

    def panel(title: str, column: str) -> Panel:
        values: Any = {str(row["operator"]): row[column] for row in found if column in row}
        return Panel(title, [Series(title, values)], "%", ratio=False, bars=True)

    panels = [
        panel("Writing: share of memory's speed", "reading_percent"),
        panel("A prompt: share of the best product", "computing_percent"),
    ]
    return Chart("operators", f"How much of the machine each operator uses, {SHAPES[LARGE]}", names, panels)


def rows(figures: Figures) -> Chart:
    """Several tokens a call."""

    def series(name: str, column: str, kernels: str) -> Series:
        table = figures.table("loop", "rows", package=PACKAGE, kernels=kernels)
        found: Any = {str(row["tokens"]): row[column] for row in table.rows if column in row}
        return Series(name, found)

    counts = [str(row["tokens"]) for row in figures.table("loop", "rows", package=PACKAGE).rows]
    panels = [
        Panel(
            "A call takes",
            [
                series("graphopt's kernels", "ms", "graphopt"),
                series("onnxruntime's kernels", "ms", "onnxruntime"),
            ],
            "ms",
            ratio=False,
        ),
        Panel("... times one token's", [series("graphopt's kernels", "times", "graphopt")], "times"),
    ]
    return Chart("rows", f"Several tokens a call, {SHAPES[LARGE]}", counts, panels, rows_are="tokens a call")


def drafts(figures: Figures) -> Chart:
    cells = {
        "held-out, 256 tokens before": {"package": PACKAGE, "prompt": 256},
        "held-out, 2048 before": {"package": PACKAGE, "prompt": 2048},
        "tiny-coder's own words": {"package": "tiny-int4", "own_words": True},
    }

    def panel(title: str, text: str) -> Panel:
        series = [
            Series(
                name,
                {row: figures.at(("speculate", "drafts", cell, text, column)) for row, cell in cells.items()},
                column == "control",
            )
            for name, column in (("with drafts", "times"), ("plain again (A/A)", "control"))
        ]
        return Panel(title, series, "times as fast as without drafts")

    panels = [panel("Code", "code"), panel("Prose", "prose")]
    return Chart("drafts", "Drafts by prompt lookup", list(cells), panels)
