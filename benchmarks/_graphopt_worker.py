"""One graphopt package in this process, by our own loop: see _measure.py."""

from __future__ import annotations

import argparse

import onnxruntime  # noqa: F401  (its import is not part of loading)
from _measure import Tokens, measure

import graphopt
from graphopt.runtime import Decoder


class Package:
    def __init__(self, args: argparse.Namespace) -> None:
        session = graphopt.Package.load(args.model).session(threads=args.threads or None)
        self._decoder = Decoder(session, batch=args.batch, capacity=args.prompt + args.new + 2)

    def start(self, prompt: Tokens) -> Tokens:
        self._decoder.reset()
        return self._next(prompt)

    def step(self, tokens: Tokens) -> Tokens:
        return self._next(tokens[:, None])

    def _next(self, tokens: Tokens) -> Tokens:
        return self._decoder.append(tokens)[:, -1].argmax(-1)


if __name__ == "__main__":
    measure(Package, "graphopt", "onnxruntime")
