"""Speculation by prompt lookup against plain decoding, on held-out code and on prose.

    python benchmarks/speculate.py build/llama-1b-int4
    python benchmarks/speculate.py build/tiny-int4 --own-words
    python benchmarks/speculate.py build/llama-1b-int4 --costs 1,1.28,1.69,1.98,2.27,2.64

A model with random weights repeats itself, and drafts of repetition come true: no evidence. So by default
the text is given: each excerpt's next tokens are forced, whatever the logits say, and a drafted token counts
as right where it is the excerpt's. The model runs as it would, argmax over the vocabulary included. With
--own-words a trained model's greedy continuation of each excerpt decides. With --costs no model runs: calls
of 1, 2, ... tokens take what is given (`benchmarks/loop.py --only rows` measures it), only drafts are real.

Each excerpt is decoded plainly, with drafts, and plainly again (the control), in turn, in a process. Code is
the embedded model's held-out text, prose the language reference that comes with Python; tokens are those of
the package's tokenizer. Ratios are of total times, with 95 % intervals over excerpts; they are printed, and
merged into benchmarks/results/speculate.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Any

import numpy as np
from _provenance import here
from _results import Row, Table, option, record
from _rounds import table_of

from graphopt import Package
from graphopt.evaluate._texts import built_in_text
from graphopt.metrics import Estimate, bootstrap
from graphopt.runtime import Decoder, Speculation, Tokenizer
from graphopt.runtime._speculate import Costs

Choice = Callable[..., Any]


@dataclass(frozen=True)
class Measured:
    """One excerpt: seconds for all new tokens, and calls of the model."""

    plain: float
    drafted: float
    again: float
    calls: int
    same: bool


def plainly(decoder: Decoder, prompt: Sequence[int], count: int, choose: Choice) -> tuple[list[int], float]:
    decoder.reset()
    made = [int(choose(decoder.append(np.asarray(prompt))[0])[-1])]
    started = time.perf_counter()
    while len(made) < count:
        made.append(int(choose(decoder.append(np.asarray(made[-1:]))[0])[-1]))
    return made, time.perf_counter() - started


def drafted(
    decoder: Decoder, prompt: Sequence[int], count: int, choose: Choice
) -> tuple[list[int], float, int]:
    decoder.reset()
    speculation = Speculation(decoder, choose)
    tokens = speculation.tokens(prompt, count)
    made = [next(tokens)]
    started = time.perf_counter()
    made += tokens
    return made, time.perf_counter() - started, speculation.calls


def forced(decoder: Decoder, text: Sequence[int]) -> Choice:
    """A choice that says what `text` says, and looks at all the logits first, as a real one does."""

    def choose(logits: Any, *_: Any) -> Any:
        logits.argmax(-1)
        return np.asarray(text[decoder.length + 1 - len(logits) : decoder.length + 1])

    return choose


def measure(decoder: Decoder, text: Sequence[int], args: argparse.Namespace) -> Measured:
    prompt, count = text[: args.prompt], args.new
    choose = (lambda logits, *_: logits.argmax(-1)) if args.own_words else forced(decoder, text)
    first, plain = plainly(decoder, prompt, count, choose)
    second, fast, calls = drafted(decoder, prompt, count, choose)
    _, again = plainly(decoder, prompt, count, choose)
    return Measured(plain, fast, again, calls, first == second)


class Pretended:
    """What `Speculation` needs of a `Decoder`, without a model."""

    room = sys.maxsize

    def __init__(self) -> None:
        self.length = 0

    def append(self, tokens: Any, *, keep: int) -> Any:
        self.length += len(tokens)
        return np.empty((1, keep, 1))

    def rewind(self, length: int) -> None:
        self.length = length


class Given(Costs):
    """Costs that are what they were said to be; `spent` is their sum."""

    def __init__(self, costs: Sequence[float]) -> None:
        super().__init__()
        self._given, self.spent = list(costs), 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        self.spent += self._given[tokens - 1]

    def relative(self, count: int) -> list[float]:
        return self._given[:count]


def pretended(text: Sequence[int], args: argparse.Namespace) -> tuple[float, float, int]:
    """Tokens made after the first, what the calls that made them cost, and how many calls that was."""
    decoder: Any = Pretended()
    speculation = Speculation(decoder, forced(decoder, text), longest=len(args.costs) - 1)
    speculation._costs = costs = Given(args.costs)
    made = len(list(speculation.tokens(text[: args.prompt], args.new))) - 1
    return made, costs.spent, speculation.calls


def at_costs(texts: Mapping[str, str], tokenizer: Tokenizer, args: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for name, content in texts.items():
        found = [pretended(text, args) for text in excerpts(tokenizer.plain(content), args)]
        calls = sum(m for m, _, _ in found) / sum(c for _, _, c in found)
        times = ratio([(m, spent) for m, spent, _ in found])
        rows.append({"text": name, "tokens_a_call": calls, "times": times})
    return rows


def measured(texts: Mapping[str, str], tokenizer: Tokenizer, args: argparse.Namespace) -> Iterator[Row]:
    decoder = Decoder(Package.load(args.package).session(), capacity=args.prompt + args.new)
    for name, content in texts.items():
        found = [measure(decoder, text, args) for text in excerpts(tokenizer.plain(content), args)]
        made = (args.new - 1) * len(found)
        yield {
            "text": name,
            "tokens_a_call": made / sum(one.calls for one in found),
            "times": ratio([((m.plain + m.again) / 2, m.drafted) for m in found]),
            "control": ratio([(m.plain, m.again) for m in found]),
            "plain_tok_s": made / sum(one.plain for one in found),
            "same": sum(one.same for one in found),
        }


def excerpts(tokens: Sequence[int], args: argparse.Namespace) -> list[list[int]]:
    """Evenly spread pieces of a prompt and as much again as is made."""
    length = args.prompt + args.new
    starts = np.linspace(0, len(tokens) - length, args.excerpts).astype(int)
    return [list(tokens[start : start + length]) for start in starts]


def ratio(times: Sequence[tuple[float, float]]) -> Estimate:
    """Of the total of the first times to the total of the second."""
    return bootstrap([np.asarray([pair]) for pair in times], lambda x: float(x[:, 0].sum() / x[:, 1].sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--new", type=int, default=192)
    parser.add_argument("--excerpts", type=int, default=6)
    parser.add_argument("--own-words", action="store_true")
    parser.add_argument("--costs", type=lambda text: [float(part) for part in text.split(",")])
    option(parser, "speculate")
    args = parser.parse_args()
    tokenizer = Tokenizer(args.package)
    texts = {"code": built_in_text().content, "prose": "\n".join(topics.topics.values())}
    cell = {"package": args.package.name, "prompt": args.prompt, "new": args.new}
    cell |= {"own_words": args.own_words, "excerpts": args.excerpts}
    if args.costs:
        name, rows = "at_costs", at_costs(texts, tokenizer, args)
        cell |= {"costs": ", ".join(f"{cost:g}" for cost in args.costs)}
    else:
        name, rows = "drafts", list(measured(texts, tokenizer, args))
    print(table_of(rows))
    whose, about = (
        "95 % bootstrap interval, over excerpts, of the ratio of total times",
        here(rounds=args.excerpts),
    )
    record(args.json, [Table(name=name, cell=cell, key="text", interval=whose, rows=rows, **about)])


if __name__ == "__main__":
    main()
