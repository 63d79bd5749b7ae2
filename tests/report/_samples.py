"""Reports for tests of the page, small, large and hostile; none of them was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphopt.report import (
    ClosingReport,
    CoverageReport,
    CoverageRowReport,
    EditReport,
    FallbackReport,
    GateOutcome,
    GateReport,
    Generation,
    GraphEdge,
    GraphGroup,
    GraphSide,
    GraphView,
    MetricReport,
    MissReport,
    NodeEntry,
    NodeOrigin,
    PassReport,
    Provenance,
    Report,
    Sizes,
)

__all__ = [
    "HOSTILE",
    "PAGES",
    "comparison",
    "coverage",
    "edit",
    "gate_report",
    "graph_view",
    "hostile_gate",
    "hostile_report",
    "large_report",
    "outcome",
    "report",
    "step",
    "three_reports",
]

HOSTILE = '</script><img src=x onerror="alert(1)">{{ 7*7 }}<!--'
"""What a node may be called by somebody who wants a page to do something."""


def edit(number: int, name: str = "fuse", **changes: Any) -> EditReport:
    values: dict[str, Any] = {
        "number": number,
        "identity": f"{name}:{number:08x}",
        "summary": "Gelu",
        "outcome": "applied",
        "verdict": "proven",
        "how": "numeric",
    }
    return EditReport(**(values | changes))


def lossy(number: int, value: float) -> EditReport:
    said = {"summary": "4-bit weight", "verdict": "within budget", "value": value, "bound": 12.0}
    return edit(number, "quantize", **said)


def step(name: str, nodes: tuple[int, int], sizes: tuple[int, int], **changes: Any) -> PassReport:
    values: dict[str, Any] = {
        "step": name,
        "level": "improve",
        "contract": "exact",
        "edits": [edit(n, name) for n in range(1, 4)],
        "nodes_before": nodes[0],
        "nodes_after": nodes[1],
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "seconds": 0.4,
        "check_seconds": 0.1,
        "modified": nodes[0] != nodes[1] or sizes[0] != sizes[1],
        "proved": "structure, 3 proven",
    }
    return PassReport(**(values | changes))


def comparison(case: str, value: float, **changes: Any) -> MetricReport:
    values: dict[str, Any] = {
        "case": case,
        "output": "logits",
        "metric": "kl_mean",
        "value": value,
        "bound": 0.08,
    }
    return MetricReport(**(values | {"holds": value <= 0.08} | changes))


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "graphopt": "0.1.0",
        "source": "a-model",
        "out": "a-model-int4",
        "task": "text-generation",
        "family": "decoder",
        "target": "here",
        "recipe": "int4",
        "lossless": False,
        "verify": "numeric",
        "passes": [
            step("upgrade", (100, 100), (4_000_000, 4_000_000), edits=[]),
            step("fold", (100, 60), (4_000_000, 4_000_100)),
            step(
                "grow",
                (60, 66),
                (4_000_100, 4_000_100),
                near_misses=[MissReport(where="n", reason="two uses")],
            ),
            step(
                "quantize",
                (66, 66),
                (4_000_100, 900_000),
                contract="lossy(sqnr 12.0)",
                edits=[lossy(n, 20.0 - n / 10) for n in range(1, 9)],
            ),
        ],
        "closing": ClosingReport(
            verdict="passed",
            reference="the source in PyTorch, fp32",
            metrics=[
                comparison("held-out text", 0.056),
                comparison("prefill", 0.03),
                comparison("decode", 0.01),
            ],
            seconds=2.0,
        ),
        "sizes": Sizes(source_weight_bytes=4_000_000, package_weight_bytes=900_000, package_bytes=1_200_000),
        "seconds": {"export": 3.0, "passes": 1.2, "check": 2.0},
        "peak_memory": 500_000_000,
        "assumptions": {"last": "logits are those of the last token"},
        "versions": {"onnx": "1.0"},
        "machine": {"cores": "2"},
    }
    return Report(**(values | changes))


def large_report() -> Report:
    """As of a model of a billion weights: 60 steps with hundreds of edits each, none alike another."""
    passes = [
        step(
            f"step-{number}",
            (60_000 - 900 * number, 60_000 - 900 * (number + 1)),
            (4_000_000_000, 4_000_000_000),
            edits=[
                edit(n, f"step-{number}", summary=f"Gelu of model.layers.{n}.mlp.activation")
                for n in range(500)
            ],
            near_misses=[
                MissReport(where=f"node_{n}", reason=f"{n} uses of an inner value") for n in range(200)
            ],
        )
        for number in range(60)
    ]
    weights = [lossy(n, 20.0 - n / 1000) for n in range(1, 3000)]
    sizes = (4_000_000_000, 700_000_000)
    passes.append(step("quantize", (6000, 6000), sizes, contract="lossy(sqnr 12.0)", edits=weights))
    return report(passes=passes, views={"model": large_view()})


def large_view() -> GraphView:
    """As of 64 layers of four parts, with every node listed and where it comes from."""

    def side(nodes: int) -> GraphSide:
        groups = []
        for number in range(256):
            listed = [
                NodeEntry(name=f"node_linear_{number}_{n}", operator="MatMul", edit=f"step-{n}:1")
                for n in range(nodes)
            ]
            origins = {
                f"step-{n}:1": NodeOrigin(
                    sources=[f"node_{number}_{n}_{m}" for m in range(24)], through=["step-1:2"]
                )
                for n in range(nodes if nodes < 10 else 0)
            }
            part = GraphGroup(
                id=f"{number}", title=f"layer {number // 4}: part {number % 4}", nodes=nodes, y=number
            )
            groups.append(part.model_copy(update={"nodes_listed": listed, "origins": origins}))
        return GraphSide(groups=groups)

    return GraphView(before=side(120), after=side(5))


def hostile_report() -> Report:
    """Every text of which is `HOSTILE`."""
    bad = edit(
        1, summary=HOSTILE, reason=HOSTILE, identity=HOSTILE, verdict="within budget", value=1.0, bound=0.5
    )
    return report(
        source=HOSTILE,
        out=HOSTILE,
        passes=[step(HOSTILE, (9, 8), (9, 4), edits=[bad], skipped=HOSTILE, role=HOSTILE)],
        closing=ClosingReport(
            verdict="passed", reference=HOSTILE, metrics=[comparison(HOSTILE, 1.0, output=HOSTILE)]
        ),
        notes=[HOSTILE],
        assumptions={HOSTILE: HOSTILE},
        machine={HOSTILE: HOSTILE},
        coverage={HOSTILE: coverage(HOSTILE)},
        views={HOSTILE: graph_view(HOSTILE)},
    )


def coverage(text: str) -> CoverageReport:
    """Three nodes of an operator called `text` on a provider called so, and one that it left."""
    return CoverageReport(
        provider=text,
        rows=[
            CoverageRowReport(provider=text, operator=text, count=3, share=0.75),
            CoverageRowReport(provider=f"not {text}", operator=text, count=1, share=0.2),
        ],
        fallbacks=[FallbackReport(node=text, operator=text, provider=f"not {text}", reason=text)],
        crossings=2,
        copies=2,
        copy_share=0.05,
        fallback_share=0.2,
        untimed=text,
    )


def outcome(metric: str, bound: float, value: float, spread: float, **changes: Any) -> GateOutcome:
    values: dict[str, Any] = {
        "text": f"{metric} <= {bound}",
        "where": "graphopt.toml:3",
        "metric": metric,
        "operator": "<=",
        "bound": bound,
        "value": value,
        "low": value - spread,
        "high": value + spread,
        "own": value,
        "units": 40,
        "p": 0.01,
        "adjusted_p": 0.02,
        "verdict": "pass"
        if value + spread <= bound
        else "fail"
        if value - spread > bound
        else "inconclusive",
    }
    return GateOutcome(**(values | changes))


def gate_report(**changes: Any) -> GateReport:
    """With each verdict, relative and absolute bounds, and what is exact."""
    relative = {"relative": True, "own": 0.0121, "baseline": 0.0118}
    values: dict[str, Any] = {
        "verdict": "fail",
        "outcomes": [
            outcome("kl_mean", 0.02, 0.014, 0.002),
            outcome(
                "top1_agreement", 0.9, 0.95, 0.01, operator=">=", text="top1_agreement >= 90%", verdict="pass"
            ),
            outcome("perplexity_ratio", 1.02, 1.018, 0.006, needed="12,000 more tokens"),
            outcome("tpot", 1.05, 1.22, 0.03, **relative, reason="slower by more than is allowed"),
            outcome("ttft", 1.05, 1.01, 0.02, **relative),
            outcome("package_bytes", 4e6, 3.4e6, 0.0, exact=True, units=0, p=None, adjusted_p=None),
        ],
        "control": {"tpot": (1.001, 0.985, 1.018), "ttft": (0.998, 0.98, 1.012)},
        "generations": [
            Generation(
                prompt="def fibonacci(n):",
                reference="\n    if n < 2:\n        return n\n",
                answer="\n    if n < 1:\n        return 0\n    return",
                reference_tokens=12,
                answer_tokens=15,
                agreed=6,
                agreed_text=12,
            ),
            Generation(
                prompt="import os",
                reference="\nimport sys",
                answer="\nimport sys",
                reference_tokens=4,
                answer_tokens=4,
                agreed=4,
                agreed_text=11,
            ),
        ],
        "notes": ["the data name no domains"],
        "seconds": {"accuracy": 8.0, "speed": 60.0},
        "provenance": Provenance(
            graphopt="0.1.0",
            package="a-model-int4",
            package_digest="sha256:" + "a" * 64,
            baseline="a-model",
            data="held-out text",
            tokens=16_384,
            cpu="a processor",
            threads=2,
            seeds={"bootstrap": 0},
            command=["graphopt", "gate", "a-model-int4", "--baseline", "a-model"],
        ),
    }
    return GateReport(**(values | changes))


def hostile_gate() -> GateReport:
    """Every text of which is `HOSTILE`."""
    said = {"text": HOSTILE, "where": HOSTILE, "scope": HOSTILE, "reason": HOSTILE, "needed": HOSTILE}
    texts = {"prompt": HOSTILE, "reference": HOSTILE, "answer": HOSTILE + HOSTILE}
    counts = {"reference_tokens": 1, "answer_tokens": 2, "agreed": 1, "agreed_text": len(HOSTILE)}
    provenance = {"graphopt": "0", "package": HOSTILE, "package_digest": HOSTILE, "baseline": HOSTILE}
    return gate_report(
        outcomes=[outcome("kl_mean", 0.02, 0.3, 0.1, **said)],
        generations=[Generation(**texts, **counts)],
        notes=[HOSTILE],
        provenance=Provenance(**provenance, command=[HOSTILE], versions={HOSTILE: HOSTILE}),
    )


def three_reports() -> list[Report]:
    """Of one source by three recipes."""
    folds = [step("fold", (100, 60), (4_000_000, 4_000_100))]
    sizes = Sizes(source_weight_bytes=4_000_000, package_weight_bytes=4_000_100, package_bytes=4_300_000)
    closing = ClosingReport(
        verdict="passed",
        reference="the source in PyTorch, fp32",
        metrics=[comparison("prefill", 2e-5, metric="scaled_difference", bound=1e-3, holds=True)],
    )
    lossless = {"recipe": "lossless", "lossless": True, "passes": folds, "sizes": sizes, "closing": closing}
    eight = Sizes(source_weight_bytes=4_000_000, package_weight_bytes=1_700_000, package_bytes=2_000_000)
    return [
        report(out="a-int4"),
        report(out="a-int8", recipe="int8", sizes=eight),
        report(out="a-plain", **lossless),
    ]


def graph_view(name: str = "fused") -> GraphView:
    """Two layers, the attention of each of which is fused into a node; a part is gone, another is new."""

    def group(id: str, nodes: int, y: float, **changes: Any) -> GraphGroup:
        listed = [NodeEntry(name=f"{id}/{n}", operator="Add") for n in range(nodes)]
        values: dict[str, Any] = {"nodes": nodes, "y": y, "nodes_listed": listed, "operators": {"Add": nodes}}
        return GraphGroup(**({"id": id, "title": id} | values | changes))

    def fused(layer: int, y: float) -> GraphGroup:
        made = NodeEntry(name=f"{name}_{layer}", operator="x::Attention", edit=f"fold:{layer + 1}")
        origin = NodeOrigin(sources=[name, f"attn/{layer}/1"], left_out=3, through=["grow:1"])
        told = {
            "fused": True,
            "passes": ["fold"],
            "nodes_listed": [made],
            "origins": {f"fold:{layer + 1}": origin},
        }
        return group(
            f"attn/{layer}", 1, y, layer=layer, title=f"layer {layer}: attn", weight_bytes=90_000, **told
        )

    def whole(layer: int, y: float) -> GraphGroup:
        said = {"layer": layer, "title": f"layer {layer}: attn", "weight_bytes": 400_000}
        return group(f"attn/{layer}", 9, y, **said)

    before = [group("masks", 4, 0, x=1), group("embed", 1, 0), whole(0, 1), whole(1, 2)]
    after = [group("embed", 1, 0), fused(0, 1), fused(1, 2), group("head", 1, 3)]
    chain = [GraphEdge(source="embed", target="attn/0"), GraphEdge(source="attn/0", target="attn/1")]
    wired = [*chain, GraphEdge(source="masks", target="attn/0")]
    return GraphView(
        before=GraphSide(groups=before, edges=wired),
        after=GraphSide(groups=after, edges=[*chain, GraphEdge(source="attn/1", target="head")]),
    )


PAGES: dict[str, Callable[[], dict[str, Any]]] = {
    "run": lambda: {"reports": [report(views={"model": graph_view()})]},
    "gate": lambda: {"reports": [report()], "gate": gate_report()},
    "compare": lambda: {
        "reports": three_reports(),
        "results": [gate_report(), None, gate_report(verdict="pass")],
    },
    "hostile": lambda: {"reports": [hostile_report()], "gate": hostile_gate()},
}
"""What `write_page` is asked for in a browser, by name."""
