"""The one table of what is measured: the keys of recipes' budgets, contracts, reports and `--json`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """A number that says how good a package is, or how near its source.

    `key` is its name in files, `label` its name in front of people, `unit` empty for a plain number. `better`
    is which way is an improvement, and so which side of a bound holds.
    """

    key: str
    label: str
    unit: str
    better: Literal["smaller", "larger"]
    meaning: str

    def holds(self, value: float, bound: float) -> bool:
        """Whether `value` is within `bound`. NaN is not."""
        return value >= bound if self.better == "larger" else value <= bound

    def text(self, value: float) -> str:
        """`value` as people read it: what comes near 1 with six decimals, others with three digits."""
        if self.better == "larger" and not self.unit:
            return f"{value:.6f}".rstrip("0").rstrip(".")
        return f"{value:.3g}"

    def strain(self, value: float, bound: float) -> float:
        """How near its bound a value is: at most 1 where it holds, the more the worse; inf for NaN.

        Comparable among values of one metric. Of a cosine the distance from 1 counts.
        """
        if math.isnan(value):
            return math.inf
        if self.better == "larger":
            return (1 - value) / (1 - bound) if bound < 1 else 1 + bound - value
        return value / bound if bound else 1 + value if value > 0 else 0.0

    def worst(self, values: Iterable[float]) -> float:
        """The least good of them."""
        return min(values) if self.better == "larger" else max(values)


_ACCURACY = (
    Metric(
        "kl_mean",
        "mean KL divergence",
        "nats a token",
        "smaller",
        "Mean over tokens of KL(source || package), the divergence of next-token distributions.",
    ),
    Metric(
        "kl_p99",
        "99th percentile KL divergence",
        "nats a token",
        "smaller",
        "What the divergence of 99 % of tokens does not exceed.",
    ),
    Metric(
        "perplexity",
        "perplexity",
        "",
        "smaller",
        "exp of the mean negative log-likelihood of a text's tokens.",
    ),
    Metric(
        "perplexity_ratio",
        "perplexity over the reference's",
        "",
        "smaller",
        "Perplexity of the package over that of the reference on the same tokens.",
    ),
    Metric(
        "top1_agreement",
        "top-1 agreement",
        "",
        "larger",
        "Share of tokens after which both give the same token the highest probability.",
    ),
    Metric(
        "top1_mismatches",
        "tokens with another top-1",
        "tokens",
        "smaller",
        "Tokens after which another token has the largest logit, near-ties of the source aside.",
    ),
    Metric(
        "cosine_mean",
        "mean cosine similarity",
        "",
        "larger",
        "Mean cosine between the rows (last axis) of an output and of the source's.",
    ),
    Metric(
        "cosine_min",
        "lowest cosine similarity",
        "",
        "larger",
        "The lowest cosine between a row (last axis) of an output and the source's.",
    ),
    Metric(
        "sqnr",
        "signal-to-quantization-noise ratio",
        "dB",
        "larger",
        "10 log10 of the sum of squares of what is expected over that of the error.",
    ),
    Metric(
        "scaled_difference",
        "largest difference",
        "std",
        "smaller",
        "The largest difference anywhere in an output, in standard deviations of the source's output.",
    ),
    Metric(
        "rms_difference",
        "RMS difference",
        "std",
        "smaller",
        "Root mean square of the difference, in standard deviations of the source's output.",
    ),
    Metric(
        "mismatched_values",
        "values that differ",
        "values",
        "smaller",
        "Entries of an output of integers, booleans or text that are not equal.",
    ),
    Metric(
        "flips_lost",
        "right tokens that became wrong",
        "",
        "smaller",
        "Share of tokens that the reference predicts (its top-1 is the text's next), and the package not; of "
        "labelled data the share of labels.",
    ),
    Metric(
        "flips_won",
        "wrong tokens that became right",
        "",
        "larger",
        "Share of tokens that the package predicts (its top-1 is the text's next), and the reference not; of "
        "labelled data the share of labels.",
    ),
    Metric(
        "greedy_agreement",
        "greedy agreement",
        "",
        "larger",
        "Share of greedily generated tokens before the first that differs from the reference's.",
    ),
    Metric(
        "length_ratio",
        "length of generated texts",
        "",
        "larger",
        "Tokens of greedily generated texts, the package's and the reference's, the shorter over the longer: "
        "less than 1 where answers are cut short or never end.",
    ),
    Metric(
        "padded_kl_mean",
        "mean KL divergence of padded rows",
        "nats a token",
        "smaller",
        "kl_mean over texts that stand in one batch with longer ones, padding left out.",
    ),
    Metric(
        "padded_cosine_min",
        "lowest cosine similarity of padded rows",
        "",
        "larger",
        "cosine_min over rows that stand in one batch with longer ones, padding left out.",
    ),
    Metric(
        "label_agreement",
        "label agreement",
        "",
        "larger",
        "Share of inputs that a classification head gives the reference's label.",
    ),
    Metric(
        "label_accuracy",
        "accuracy against labels",
        "",
        "larger",
        "Share of inputs, or of their tokens, that a head gives the label that the data has; of questions, "
        "share answered with one of the data's answers.",
    ),
    Metric(
        "top5_agreement",
        "top-5 agreement",
        "",
        "larger",
        "Share of the reference's five likeliest labels that are among the package's.",
    ),
    Metric(
        "span_agreement",
        "span agreement",
        "",
        "larger",
        "Share of questions answered with the reference's span of text.",
    ),
    Metric(
        "mean_average_precision",
        "mean average precision",
        "",
        "larger",
        "Of detected objects, against labels or against the reference's own objects (COCO's mAP@[.5:.95]).",
    ),
    Metric(
        "mean_iou",
        "mean IoU",
        "",
        "larger",
        "Pixels to which both give a class over those to which either does: the mean over the classes that "
        "the reference gives, and over images.",
    ),
    Metric(
        "character_error_rate",
        "character error rate",
        "",
        "smaller",
        "Letters to put in, leave out or replace to come from the package's text to the reference's, over "
        "the reference's letters: the mean over recordings.",
    ),
    Metric(
        "word_error_rate",
        "word error rate",
        "",
        "smaller",
        "The same of words, which lie between the tokenizer's word delimiters.",
    ),
    Metric(
        "task_accuracy",
        "task accuracy",
        "",
        "larger",
        "Share of a task's questions that are answered right, as lm-eval counts.",
    ),
)

_SPEED = (
    Metric("load_time", "load", "s", "smaller", "From nothing to a model that is ready to run."),
    Metric("ttft", "time to first token", "s", "smaller", "From a prompt to the logits of its next token."),
    Metric(
        "tpot",
        "time per output token, p50",
        "s",
        "smaller",
        "Of the tokens after the first, one after another, the median.",
    ),
    Metric("tpot_p90", "time per output token, p90", "s", "smaller", "The same, 90 % of tokens."),
    Metric(
        "prefill_tokens_per_second",
        "prefill",
        "tokens/s",
        "larger",
        "Tokens of the prompt over the time to the first token.",
    ),
    Metric(
        "decode_tokens_per_second",
        "decode",
        "tokens/s",
        "larger",
        "Tokens after the first over the time that they took.",
    ),
    Metric("first_call_time", "first call", "s", "smaller", "Of a model that generates no text."),
    Metric("call_time", "time per call, p50", "s", "smaller", "Of the calls after the first, the median."),
    Metric("call_time_p90", "time per call, p90", "s", "smaller", "The same, 90 % of calls."),
    Metric("calls_per_second", "calls", "calls/s", "larger", "Calls after the first over their time."),
    Metric(
        "batch_tokens_per_second",
        "throughput of a batch",
        "tokens/s",
        "larger",
        "Tokens of all texts of a batch over the time that it took.",
    ),
)

_SIZE = (
    Metric("package_bytes", "package size", "bytes", "smaller", "All files of a package."),
    Metric("weight_bytes", "weights", "bytes", "smaller", "Weights as they are stored."),
    Metric(
        "bpw",
        "bits a weight",
        "bits",
        "smaller",
        "Bits that an entry of a quantized weight takes, scales and zero points included, the mean.",
    ),
    Metric("memory", "memory", "bytes", "smaller", "Resident memory of the process in the end."),
    Metric("peak_memory", "peak memory", "bytes", "smaller", "The most resident memory the process had."),
    Metric("nodes", "nodes", "nodes", "smaller", "Nodes of a graph and its subgraphs."),
    Metric(
        "fallback_nodes",
        "fallback nodes",
        "nodes",
        "smaller",
        "Nodes that a target's runtime leaves to another execution provider than the target's own.",
    ),
    Metric(
        "census_changes",
        "kinds of node with another count",
        "kinds",
        "smaller",
        "Operators, told apart by attributes that choose a kernel, that the baseline has more or less of.",
    ),
    Metric(
        "interface_changes",
        "changes of the interface",
        "changes",
        "smaller",
        "Inputs and outputs whose name, dtype or shape is not the baseline's.",
    ),
    Metric(
        "bytes_per_token",
        "bytes read a token",
        "bytes",
        "smaller",
        "Weights that a decoding step reads, once each, and of a gathered table the rows it takes.",
    ),
    Metric(
        "flops_per_token",
        "FLOPs a token",
        "FLOP",
        "smaller",
        "Operations of the products of a decoding step, a multiplication and an addition for each weight.",
    ),
)

_PRICE = (
    Metric(
        "usd_per_mtok",
        "a million tokens",
        "$",
        "smaller",
        "What a machine costs while it answers requests, for a million of their tokens, read and written.",
    ),
    Metric("usd_per_mtok_in", "a million tokens read", "$", "smaller", "The same while prompts are read."),
    Metric("usd_per_mtok_out", "a million tokens written", "$", "smaller", "The same while text is written."),
)

METRICS = {metric.key: metric for metric in (*_ACCURACY, *_SPEED, *_SIZE, *_PRICE)}
"""By key."""
