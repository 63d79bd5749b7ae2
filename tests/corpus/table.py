"""Write docs/coverage.md from the stored results: `python -m tests.corpus.table`."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

from graphopt.plugins.registry import resolve, targets
from tests.corpus._store import Store, code_state
from tests.corpus._types import TASKS, ordered
from tests.corpus._variations import VARIATIONS
from tests.corpus.backend import DEFAULTS
from tests.corpus.faults import NETS, PAGE, kept, read, replaced, section
from tests.corpus.peers import PEERS, pinned

Result = dict[str, Any]

BACKEND = {
    "equal": "equal",
    "runtime: cannot run": "onnxruntime cannot run the original",
    "runtime: differs": "onnxruntime's own result is not the suite's; graphopt keeps it",
    "random": "random: two runs of the original differ",
    "unsuited": "the case has no such variation",
    "too old": "opset below 13 that onnx's converter cannot raise: refused with that message",
    "refused": "refused with a message, ours to fix",
    "crashed": "crashed, ours to fix",
    "differs": "silently different, ours to fix",
}
KEPT = ("equal", "runtime: differs", "random")
DEFAULT_OUTCOMES = {
    "equal": "equal",
    "refused": "refused (raised)",
    "stopped": "stopped by its own check",
    "invalid": "made an invalid model",
    "differs": "silently different",
    "crashed": "crashed",
}
MODELS = {
    "lowered": "fully lowered: every attention and norm is one kernel, equal to PyTorch",
    "stayed": "exported, equal to PyTorch, not fully lowered",
    "differs": "stopped by a check, ours to fix",
    "crashed": "crashed, ours to fix",
    "too slow": "not done in 120 s of processor time",
    "ours": "graphopt cannot export it, the exporter alone can",
    "exporter": "the exporter cannot: a script without graphopt fails too",
    "untried": "graphopt cannot export it; the exporter alone was not tried yet",
    "not built": "no tiny model: transformers builds none from its configuration, or this corpus does not",
    "not run": "not run yet",
}
_PLACES = re.compile(r"/tmp/\S+|\b[\d.]+e?[-+]?\d*\b|'[^']*'")


def outcome(found: Result) -> str:
    """The bucket of a model type."""
    if found["outcome"] == "not exported":
        if "plain" not in found:
            return "untried"
        return "ours" if found["plain"]["exported"] else "exporter"
    return str(found["outcome"])


def _bucket(found: Result) -> str:
    if found["outcome"] == "refused" and "reads opset" in found["reason"]:
        return "too old"
    return str(found["outcome"])


def backend(store: Store) -> Iterator[str]:
    """The section about the backend suite."""
    results = [(c, f, r) for c, f, r in _named(store) if f in VARIATIONS]
    cases = len({case for case, _, _ in results})
    yield "## The onnx package's backend suite\n"
    yield (
        f"{cases} cases, each in four forms: {', '.join(VARIATIONS)}. Optimized with `lossless` for "
        "`cpu`, its structure checked after every pass, then run beside the original and compared "
        "with it and with what the suite expects (the suite's tolerances; integers, booleans "
        "and strings exactly). Cases older than opset 7 go through onnx's version converter first.\n"
    )
    counts = Counter((_bucket(found), form) for _, form, found in results)
    yield "| | " + " | ".join(VARIATIONS) + " |"
    yield "|---" * (len(VARIATIONS) + 1) + "|"
    for key, title in BACKEND.items():
        numbers = [counts[key, form] for form in VARIATIONS]
        if any(numbers) or key in ("differs", "crashed", "refused"):
            yield f"| {title} | " + " | ".join(map(str, numbers)) + " |"
    yield ""
    ours = [(c, f, r) for c, f, r in results if _bucket(r) in ("refused", "crashed", "differs")]
    grouped: dict[str, list[str]] = {}
    for case, form, found in ours:
        key = f"{found['outcome']}: {_PLACES.sub('…', found['reason'])[:160]}"
        grouped.setdefault(key, []).append(f"{case} ({form})")
    for said, names in sorted(grouped.items(), key=lambda item: -len(item[1])):
        yield f"- {len(names)} x {_cell(said)}; the first: {names[0]}"
    if grouped:
        yield ""


def beside(ours: Store, theirs: Store) -> Iterator[str]:
    """The section about optimizers at their defaults."""
    rows = {f"graphopt {version('graphopt')}": [(c, r) for c, f, r in _named(ours) if f == DEFAULTS]}
    for peer in map(pinned, PEERS):
        rows[peer] = [(case, r) for name, case, r in _named(theirs, first=True) if name == peer]
    yield "## Optimizers without options on the same cases\n"
    yield (
        "The cases as they are, at their own opset (at 13, where onnxruntime runs them only there), through "
        "`graphopt optimize` with its numeric verification and closing check, and through others by their "
        "documented call (`python -m tests.corpus.peers`). What each makes is checked by onnx, run by "
        "onnxruntime as it runs models by default, and compared as above:\n"
    )
    yield "| | cases that onnxruntime runs | " + " | ".join(DEFAULT_OUTCOMES.values()) + " |"
    yield "|---" * (len(DEFAULT_OUTCOMES) + 2) + "|"
    said = []
    for name, results in rows.items():
        counts = Counter("equal" if r["outcome"] in KEPT else r["outcome"] for _, r in results)
        numbers = [counts[key] for key in DEFAULT_OUTCOMES]
        yield f"| {name} | {sum(numbers)} | " + " | ".join(map(str, numbers)) + " |"
        failing = {key: [(c, r) for c, r in results if r["outcome"] == key] for key in DEFAULT_OUTCOMES}
        said += [f"- {name}: {line}" for key, found in failing.items() for line in _reasons(key, found)]
    old = sum(r["code"] != code_state() for _, f, r in _named(ours) if f == DEFAULTS)
    yield f"\n{old} of graphopt's results are of an earlier state of the code.\n" if old else ""
    yield from said
    yield ""


def _reasons(outcome: str, found: Iterable[tuple[str, Result]]) -> Iterator[str]:
    grouped: dict[str, list[str]] = {}
    for case, result in found if outcome != "equal" else ():
        grouped.setdefault(_PLACES.sub("…", result["reason"])[:120], []).append(case)
    for said, names in sorted(grouped.items(), key=lambda item: -len(item[1])):
        first = "" if outcome == "crashed" else f"; the first: {names[0]}"  # what ends others is not named
        yield f"{len(names)} x {outcome}: {_cell(said)}{first}"


def _named(store: Store, *, first: bool = False) -> Iterator[tuple[str, str, Result]]:
    """Each result with the two parts of its name; names of cases have no slash."""
    for result in store.results():
        one, _, other = result["name"].partition("/") if first else result["name"].rpartition("/")
        yield one, other, result


def models(store: Store) -> Iterator[str]:
    """The sections about the maps of transformers."""
    for which, task in TASKS.items():
        yield f"## {task.title}\n"
        found = {t: store[f"{which}/{t}"] for t in ordered(which) if f"{which}/{t}" in store}
        yield from _counts(len(task.types), found.values())
        if found:
            yield from _table(found)


def _counts(total: int, found: Iterable[Result]) -> Iterator[str]:
    counts = Counter(map(outcome, found))
    counts["not run"] = total - sum(counts.values())
    yield "| | types |"
    yield "|---|---|"
    for key, title in MODELS.items():
        if counts[key] or key in ("differs", "crashed"):
            yield f"| {title} | {counts[key]} |"
    exported = sum(counts[key] for key in ("lowered", "stayed", "differs", "crashed"))
    exportable = exported + sum(counts[key] for key in ("ours", "untried", "too slow"))
    if exportable:
        yield (
            f"\nFully lowered: {counts['lowered']} of the {exportable} that can be exported "
            f"({counts['lowered'] / exportable:.0%}), and of the {exported} that graphopt exports "
            f"({counts['lowered'] / max(exported, 1):.0%}).\n"
        )


def _table(found: dict[str, Result]) -> Iterator[str]:
    yield "| type | outcome | kernels | what stayed, and why | max abs Δlogit / std |"
    yield "|---|---|---|---|---|"
    for name, result in sorted(found.items()):
        kernels = ", ".join(f"{count} {kernel}" for kernel, count in result.get("kernels", {}).items())
        difference = result.get("difference")
        size = "" if difference is None else f"{difference:.0e}"
        yield f"| {name} | {outcome(result)} | {kernels} | {_cell(_why(result))} | {size} |"
    yield ""


def _why(result: Result) -> str:
    if result["outcome"] == "lowered":
        return ""
    if result["outcome"] == "stayed":
        return "; ".join([*result["stayed"], *result.get("reasons", [])[:2]])
    said = str(result.get("reason", ""))[:200]
    if plain := result.get("plain"):
        said += f" — without graphopt: {plain['said'].splitlines()[-1][:120] if plain['said'] else 'nothing'}"
    return said


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())


def write() -> None:
    """Write the page, and print its counts."""
    stores = [Store(name, any_code=True) for name in ("backend", "transformers")]
    peers = Store("peers", any_code=True)
    old = sum(r["code"] != code_state() for store in stores for r in store.results())
    machine = resolve("target", "cpu", targets())().fingerprint()
    libraries = ("onnx", "onnx-ir", "onnxruntime", "onnxscript", "torch", "transformers")
    lines = [
        "# Coverage\n",
        "What becomes of graphs and models that nobody here wrote. `make corpus` finds it out and writes "
        "this page; what is known of the same code and libraries it takes from `build/corpus`.\n",
        ", ".join(f"{name} {version(name)}" for name in libraries)
        + f"; {machine['processor']}, {machine['cores']} cores.\n",
    ]
    lines.append(
        "Models are built tiny from their configuration classes, with seeded random weights, each in a "
        "process of its own.\n"
    )
    if old:
        lines.append(f"{old} of the results below are of an earlier state of the code.\n")
    lines += [*backend(stores[0]), *beside(stores[0], peers), *section(read()), *models(stores[1])]
    lines.append(kept(PAGE.read_text(encoding="utf-8"), NETS))
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    for line in lines:
        if line.startswith(("#", "Fully")) or re.match(r"\|[^|]*\| \d", line):
            print(line.strip())


def write_beside() -> None:
    """Write only the section about optimizers at their defaults."""
    lines = beside(Store("backend", any_code=True), Store("peers", any_code=True))
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), lines), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", action="store_true", help="only the section about other optimizers")
    write_beside() if parser.parse_args().beside else write()
