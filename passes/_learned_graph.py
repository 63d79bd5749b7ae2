"""Learning how weights are rounded from what the whole graph then computes."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from graphopt.ir import extract, to_proto
from graphopt.runtime import default_threads, plain_options

from ._learned_weight import LearnedWeight
from ._torch_graph import TorchGraph

__all__ = ["Learner"]

_BATCH = 2  # calls a step, each on one thread: more would be fewer steps for the same work
_WARMUP = 10  # steps until Adam's averages mean something
_SAME = (
    1e-3  # of the outputs' spread: by how much PyTorch may differ from onnxruntime before anything is rounded
)

Feeds = Mapping[str, Any]
Call = tuple[list[Tensor], list[Tensor]]


class Learner:
    """Moves `weights` until the outputs of `piece` are those of `graph`, on its `calls`.

    What is learned is independent of the number of threads: each call is computed on one.
    """

    def __init__(self, graph: ir.Graph, piece: TorchGraph, weights: Mapping[Hashable, LearnedWeight]) -> None:
        self._piece, self._weights = piece, weights
        computed = [value for value in (*piece.given, *piece.outputs) if value.producer() is not None]
        self._computed = list(dict.fromkeys(computed))
        self._session, self._inputs = _session(graph, self._computed)

    def faithful(self, feeds: Feeds, exact: Mapping[Hashable, Tensor]) -> bool:
        """Whether PyTorch computes what onnxruntime does, of weights as they are and of unrounded values."""
        given, wanted = self._source(feeds)
        with _one_thread(), torch.no_grad():
            made = self._piece(exact, given, rounding=False)
        return all(
            bool(((got - want).abs().max() <= _SAME * want.std()).item())
            for got, want in zip(made, wanted, strict=True)
        )

    def learn(self, calls: Sequence[Feeds], steps: Iterable[int], count: int, rate: float) -> None:
        """`count` `steps` of Adam at `rate`, in levels, which falls to zero."""
        order = _shuffled(len(calls))
        with _one_thread(), ThreadPoolExecutor(min(_BATCH, default_threads())) as pool:
            for step in steps:
                batch = [calls[next(order)] for _ in range(_BATCH)]
                now = rate * min(1.0, (step + 1) / _WARMUP) * (1 - step / count)
                self._step(pool, batch, now)

    def _step(self, pool: ThreadPoolExecutor, batch: Sequence[Feeds], rate: float) -> None:
        rounded = self._rounded(pool)
        gradients = pool.map(lambda feeds: self._gradient(rounded, feeds), batch)
        pairs = zip(self._weights.values(), zip(*gradients, strict=True), strict=True)
        list(pool.map(lambda pair: pair[0].move(torch.stack(pair[1]).sum(0), rate), pairs))

    def error(self, calls: Sequence[Feeds], rounded: Mapping[Hashable, Tensor] | None = None) -> float:
        """The mean over `calls` of how far outputs are off, by what the weights round to or by `rounded`."""
        with _one_thread(), ThreadPoolExecutor(min(len(calls), default_threads())) as pool:
            weights = self._rounded(pool) if rounded is None else rounded
            return float(np.mean(list(pool.map(lambda feeds: self._loss(weights, feeds).item(), calls))))

    def _rounded(self, pool: ThreadPoolExecutor) -> dict[Hashable, Tensor]:
        tensors = pool.map(LearnedWeight.rounded, self._weights.values())
        return dict(zip(self._weights, tensors, strict=True))

    def _gradient(self, rounded: Mapping[Hashable, Tensor], feeds: Feeds) -> list[Tensor]:
        leaves = {key: tensor.detach().requires_grad_() for key, tensor in rounded.items()}
        with torch.enable_grad():
            return list(torch.autograd.grad(self._loss(leaves, feeds), list(leaves.values())))

    def _loss(self, weights: Mapping[Hashable, Tensor], feeds: Feeds) -> Tensor:
        given, wanted = self._source(feeds)
        losses = [
            _divergence(got, want) if value.name == "logits" else _off(got, want)
            for value, got, want in zip(self._piece.outputs, self._piece(weights, given), wanted, strict=True)
        ]
        return torch.stack(losses).sum()

    def _source(self, feeds: Feeds) -> Call:
        """What the piece is given in this call, and what it should make of it."""
        results = self._session.run(None, {name: feeds[name] for name in self._inputs})
        made = dict(zip(self._computed, map(torch.from_numpy, map(np.asarray, results)), strict=True))
        given = [made[v] if v in made else torch.from_numpy(feeds[v.name or ""]) for v in self._piece.given]
        return given, [made[v] for v in self._piece.outputs]


def _session(graph: ir.Graph, outputs: Sequence[ir.Value]) -> tuple[Any, list[str]]:
    import onnxruntime as ort

    proto = to_proto(extract(graph, outputs))
    for output in proto.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    session = ort.InferenceSession(
        proto.SerializeToString(), plain_options(threads=1), providers=["CPUExecutionProvider"]
    )
    return session, [given.name for given in session.get_inputs()]


def _divergence(got: Tensor, wanted: Tensor) -> Tensor:
    """KL(wanted || got) of logits [..., V], in nats, the mean over all rows."""
    given, true = (x.flatten(0, -2).log_softmax(-1) for x in (got, wanted))
    return functional.kl_div(given, true, log_target=True, reduction="batchmean")


def _off(got: Tensor, wanted: Tensor) -> Tensor:
    """The squared error relative to the power of what is wanted."""
    return functional.mse_loss(got, wanted) / wanted.square().mean().clamp_min(1e-30)


def _shuffled(count: int) -> Iterator[int]:
    """0 to `count` - 1 in an order of its own, again and again."""
    rng = np.random.default_rng(0)
    while True:
        yield from rng.permutation(count).tolist()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread an operation: sums are then added up in the same order everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
