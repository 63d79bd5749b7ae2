"""One model type, from its configuration class to a package that is compared with PyTorch."""

from __future__ import annotations

import re
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import graphopt
from graphopt.build import Rejected
from graphopt.errors import BadInput, CheckFailed, GraphoptError
from graphopt.ir import load_model
from graphopt.report import Report
from tests.corpus._tiny import write_tiny
from tests.corpus._types import TASKS
from tests.corpus._what_stayed import lowering_of

RAISING = ("split-heads", "raise-attention", "lower-attention", "raise-rms-norm", "raise-layer-norm")


def examine(which: str, model_type: str) -> dict[str, Any]:
    """What became of the tiny model of `model_type`: an `outcome`, and the numbers behind it.

    lowered | stayed (exported, not fully lowered) | not built | not exported | differs | crashed
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        found = _examine(which, model_type, Path(folder))
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def _examine(which: str, model_type: str, folder: Path) -> dict[str, Any]:
    try:
        model = write_tiny(which, model_type, folder / "model")
        counts = _modules_called(model)
    except Exception as error:
        return {"outcome": "not built", "reason": _said(error, folder)}
    del model
    try:
        package = graphopt.optimize(
            folder / "model", folder / "package", recipe="lossless", task=TASKS[which].task or "auto"
        )
    except Rejected as error:
        return {"outcome": "differs", "reason": _said(error, folder)} | _measured(error.report)
    except CheckFailed as error:
        return {"outcome": "differs", "reason": _said(error, folder)}
    except BadInput as error:
        return {"outcome": "not exported", "reason": _said(error, folder)}
    except (GraphoptError, Exception) as error:
        trace = "".join(traceback.format_exception(error)[-3:])
        return {"outcome": "crashed", "reason": _said(error, folder), "trace": trace[-1500:]}
    report = package.report()
    first, *more = (load_model(package.path / graph.file) for graph in package.manifest.graphs.values())
    lowering = lowering_of(first, which if more or which != "seq2seq" else "causal", more=more, **counts)
    verdict = package.manifest.closing_check
    return {
        "outcome": "stayed" if lowering.stayed else "lowered",
        "closing": verdict,
        "kernels": lowering.kernels,
        "stayed": lowering.stayed,
        "counts": counts,
        "reasons": _reasons(report),
        "notes": report.notes,
    } | _measured(report)


def _modules_called(model: Any) -> dict[str, int]:
    """How many calls of norms, and of modules with attention in them, one forward pass makes."""
    calls = {"norms": 0, "attentions": 0}

    def count(kind: str) -> Any:
        def hook(*_: Any) -> None:
            calls[kind] += 1

        return hook

    hooks = []
    for module in model.modules():
        name = type(module).__name__
        if re.search(r"(Layer|RMS|L2)Norm|(?<!^No)Norm$", name) and not list(module.children()):
            hooks.append(module.register_forward_hook(count("norms")))
        elif re.search(r"Attention$|SelfAttention2$", name) and not _holds_attention(module):
            hooks.append(module.register_forward_hook(count("attentions")))
    tokens = torch.arange(5, 21)[None]  # some pool what they read three times
    answer = {"decoder_input_ids": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        results = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **answer)
    for hook in hooks:
        hook.remove()
    if not torch.isfinite(results[0] if isinstance(results, tuple) else results.logits).all():
        raise ValueError("the random model's logits are not finite")
    return calls


def _holds_attention(module: Any) -> bool:
    return any(type(m).__name__.endswith("Attention") for m in module.modules() if m is not module)


def _measured(report: Report) -> dict[str, Any]:
    scaled = [float(c.value) for c in report.closing.metrics if c.metric == "scaled_difference"]
    logits = [
        float(c.value)
        for c in report.closing.metrics
        if c.metric == "scaled_difference" and c.output == "logits"
    ]
    return {"difference": max(logits or scaled, default=None), "worst": max(scaled, default=None)}


def _reasons(report: Report) -> list[str]:
    said = [
        f"{step.step}: {miss.reason}"
        for step in report.passes
        if step.step.partition("#")[0] in RAISING
        for miss in step.near_misses
    ]
    return list(dict.fromkeys(said))[:6]


def _said(error: BaseException, folder: Path) -> str:
    """What `error` says, of files in `folder` no more than their names in it."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text.replace(f"{folder}/", "")[:600]
