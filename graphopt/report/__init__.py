"""The report of a run: report.json, report.html, and the summary on a terminal."""

from graphopt.report._compare import ComparedRow, ComparedStep, Comparison, compare_reports
from graphopt.report._coverage import (
    CoverageReport,
    CoverageRowReport,
    FallbackReport,
    coverage_text,
)
from graphopt.report._damage import LayerDamage, damage_by_layer
from graphopt.report._gate import (
    GateOutcome,
    GateReport,
    GateVerdict,
    Generation,
    Provenance,
    RawSample,
)
from graphopt.report._graph_build import SourceGraph, graph_side
from graphopt.report._graph_view import (
    GraphEdge,
    GraphGroup,
    GraphSide,
    GraphView,
    NodeEntry,
    NodeOrigin,
    OperatorShare,
)
from graphopt.report._idle import idle_stages
from graphopt.report._model import (
    PAGE,
    REPORT,
    ClosingReport,
    EditReport,
    IslandReport,
    MetricReport,
    MissReport,
    PassReport,
    Report,
    Sizes,
)
from graphopt.report._page import write_page
from graphopt.report._prediction import BoundReport, HistoryReport, PredictionReport
from graphopt.report._sarif import (
    SarifFinding,
    SarifLevel,
    SarifRule,
    fingerprint,
    relative_path,
    sarif_log,
    sarif_run,
)
from graphopt.report._terminal import print_explanation, print_report
from graphopt.report._text import bytes_change, bytes_text, number, plural, seconds_text

__all__ = [
    "PAGE",
    "REPORT",
    "BoundReport",
    "ClosingReport",
    "ComparedRow",
    "ComparedStep",
    "Comparison",
    "CoverageReport",
    "CoverageRowReport",
    "EditReport",
    "FallbackReport",
    "GateOutcome",
    "GateReport",
    "GateVerdict",
    "Generation",
    "GraphEdge",
    "GraphGroup",
    "GraphSide",
    "GraphView",
    "HistoryReport",
    "IslandReport",
    "LayerDamage",
    "MetricReport",
    "MissReport",
    "NodeEntry",
    "NodeOrigin",
    "OperatorShare",
    "PassReport",
    "PredictionReport",
    "Provenance",
    "RawSample",
    "Report",
    "SarifFinding",
    "SarifLevel",
    "SarifRule",
    "Sizes",
    "SourceGraph",
    "bytes_change",
    "bytes_text",
    "compare_reports",
    "coverage_text",
    "damage_by_layer",
    "fingerprint",
    "graph_side",
    "idle_stages",
    "number",
    "plural",
    "print_explanation",
    "print_report",
    "relative_path",
    "sarif_log",
    "sarif_run",
    "seconds_text",
    "write_page",
]
