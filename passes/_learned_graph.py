"""Learning how weights are rounded from what the whole graph then computes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

_AT_ONCE = 2  # calls: gradients one step old did as well as new ones (tiny-coder: 0.0243 against 0.0242)
_WARMUP = 10  # steps until Adam's averages mean something
_SAME = (
    1e-3  # of the outputs' spread: by how much PyTorch may differ from onnxruntime before anything is rounded
)

_COARSE = 4  # bits of a weight at most: beside what rounding to so few does, bfloat16 does nothing

_LOGITS = "logits"

Feeds = Mapping[str, Any]


class Learner:
    """Moves `weights` until the outputs of `piece` are those of `graph`, on its `calls`.

    `exact` are the weights as they are. What is learned is independent of the number of threads: each call is
    computed on one.
    """

    def __init__(
        self,
        graph: ir.Graph,
        piece: TorchGraph,
        weights: Mapping[Hashable, LearnedWeight],
        exact: Mapping[Hashable, Tensor],
    ) -> None:
        self._graph, self._piece, self._weights, self._exact = graph, piece, weights, exact
        self._given = _Values(graph, piece.given)
        self._dtypes = {key: _dtype(weight.form.bits) for key, weight in weights.items()}
        self._source = {key: tensor.to(self._dtypes[key]) for key, tensor in exact.items()}

    def faithful(self, feeds: Feeds) -> bool:
        """Whether PyTorch computes what onnxruntime does, of weights as they are and of unrounded values."""
        wanted = _Values(self._graph, self._piece.outputs).of(feeds)
        with _one_thread(), torch.no_grad():
            made = self._piece(self._exact, self._given.of(feeds), rounding=False)
        return all(
            bool(((got - want).abs().max() <= _SAME * want.std()).item())
            for got, want in zip(made, wanted, strict=True)
        )

    def learn(self, calls: Sequence[Feeds], steps: Iterable[int], count: int, rate: float) -> None:
        """`count` `steps` of Adam at `rate`, in levels, which falls to zero; each from one call.

        The gradient of a step is of the weights that the step before it began with, so that two calls can be
        computed at once.
        """
        order = _shuffled(len(calls))
        with _one_thread(), ThreadPoolExecutor(min(_AT_ONCE, default_threads())) as pool:

            def submitted() -> Future[list[Tensor]]:
                rounded = {key: tensor.to(self._dtypes[key]) for key, tensor in self._rounded().items()}
                return pool.submit(self._gradient, rounded, calls[next(order)])

            waiting = deque(submitted() for _ in range(_AT_ONCE))
            for step in steps:
                now = rate * min(1.0, (step + 1) / _WARMUP) * (1 - step / count)
                for weight, gradient in zip(self._weights.values(), waiting.popleft().result(), strict=True):
                    weight.move(gradient, now)
                if step + _AT_ONCE < count:
                    waiting.append(submitted())

    def error(self, calls: Sequence[Feeds], rounded: Mapping[Hashable, Tensor] | None = None) -> float:
        """The mean over `calls` of how far outputs are off, by what the weights round to or by `rounded`."""
        with _one_thread(), ThreadPoolExecutor(min(len(calls), default_threads())) as pool:
            weights = self._rounded() if rounded is None else rounded
            return float(
                np.mean(list(pool.map(lambda feeds: self._loss(weights, self._exact, feeds).item(), calls)))
            )

    def _rounded(self) -> dict[Hashable, Tensor]:
        return {key: weight.rounded() for key, weight in self._weights.items()}

    def _gradient(self, rounded: Mapping[Hashable, Tensor], feeds: Feeds) -> list[Tensor]:
        leaves = {key: tensor.detach().requires_grad_() for key, tensor in rounded.items()}
        with torch.enable_grad():
            made, wanted = self._both(leaves, self._source, feeds)
        slopes = [
            _divergence_slope(got.detach(), want) if value.name == _LOGITS else _off_slope(got.detach(), want)
            for value, got, want in zip(self._piece.outputs, made, wanted, strict=True)
        ]
        return list(torch.autograd.grad(made, list(leaves.values()), slopes))

    def _loss(
        self, weights: Mapping[Hashable, Tensor], exact: Mapping[Hashable, Tensor], feeds: Feeds
    ) -> Tensor:
        losses = [
            _divergence(got, want) if value.name == _LOGITS else _off(got, want)
            for value, got, want in zip(self._piece.outputs, *self._both(weights, exact, feeds), strict=True)
        ]
        return torch.stack(losses).sum()

    def _both(
        self, weights: Mapping[Hashable, Tensor], exact: Mapping[Hashable, Tensor], feeds: Feeds
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The outputs by `weights`, and by `exact` ones of what is not rounded."""
        given = self._given.of(feeds)
        with torch.no_grad():
            wanted = self._piece(exact, given, rounding=False)
        return self._piece(weights, given), wanted


class _Values:
    """What `values` of `graph` are in a call, by onnxruntime on one thread."""

    def __init__(self, graph: ir.Graph, values: Sequence[ir.Value]) -> None:
        self._values = list(values)
        self._computed = [value for value in values if value.producer() is not None]
        if self._computed:
            self._session, self._inputs = _session(graph, self._computed)

    def of(self, feeds: Feeds) -> list[Tensor]:
        made: dict[ir.Value, Any] = {}
        if self._computed:
            results = self._session.run(None, {name: feeds[name] for name in self._inputs})
            made = dict(zip(self._computed, results, strict=True))
        return [
            torch.from_numpy(np.asarray(made[v] if v in made else feeds[v.name or ""])) for v in self._values
        ]


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


def _dtype(bits: int) -> torch.dtype:
    """In what to compute with a weight of `bits` while it is learned.

    bfloat16 where the processor multiplies it itself, at twice the speed of float32.
    """
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 and bits <= _COARSE else torch.float32


def _divergence(got: Tensor, wanted: Tensor) -> Tensor:
    """KL(wanted || got) of logits [..., V], in nats, the mean over all rows."""
    given, true = (x.flatten(0, -2).log_softmax(-1) for x in (got, wanted))
    return functional.kl_div(given, true, log_target=True, reduction="batchmean")


def _divergence_slope(got: Tensor, wanted: Tensor) -> Tensor:
    """The gradient of `_divergence` with respect to `got`, in half of autograd's passes over logits."""
    return got.softmax(-1).sub_(wanted.softmax(-1)).div_(got[..., 0].numel())


def _off(got: Tensor, wanted: Tensor) -> Tensor:
    """The squared error relative to the power of what is wanted."""
    return functional.mse_loss(got, wanted) / _power(wanted)


def _off_slope(got: Tensor, wanted: Tensor) -> Tensor:
    """The gradient of `_off` with respect to `got`."""
    return (got - wanted) * (2 / (got.numel() * _power(wanted)))


def _power(x: Tensor) -> Tensor:
    return x.square().mean().clamp_min(1e-30)


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
