"""A package opened for answering prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

from graphopt.errors import BadInput
from graphopt.runtime import Answer, AnswerRules, Message, Sampling, TextModel, answer, chat_prompt

if TYPE_CHECKING:
    from graphopt.package._package import RunnablePackage

__all__ = ["Answers", "Prompt", "is_prompt"]

Prompt = str | Sequence[Message]
"""A text to go on with, or the messages of a chat to answer."""


def is_prompt(given: Prompt | Sequence[Prompt]) -> TypeGuard[Prompt]:
    """Whether it is one prompt, and not several."""
    return isinstance(given, str) or (len(given) > 0 and isinstance(given[0], Mapping))


class Answers:
    """What answers prompts to `package`; options of a call are those of `Package.stream`."""

    def __init__(
        self, package: RunnablePackage, *, speculate: bool = False, threads: int | None = None
    ) -> None:
        self._package = package
        self._paired = "decoder" in package.manifest.graphs
        if not self._paired:
            graph = package.manifest.graphs.get("model")
            model = TextModel(
                package.path,
                partial(package.session, threads=threads),
                package.target().decoder,
                speculate=speculate,
                states=None if graph is None else graph.states,
            )
            self._generate = model.generate
        elif speculate:
            raise BadInput(f"{package.path} has an encoder: it takes no drafts")
        else:
            self._generate = _with_encoder(package, threads)

    def __call__(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 128,
        chat: bool = False,
        system: str | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        repetition_penalty: float | None = None,
        stop: str | Sequence[str] = (),
        logprobs: int | None = None,
    ) -> Answer:
        sampling = Sampling(temperature, top_p, seed, repetition_penalty)
        if chat or system is not None or not isinstance(prompt, str):
            if self._paired:
                raise BadInput(f"{self._package.path} has an encoder: it takes no chat")
            prompt = chat_prompt(self._package.path, prompt, system=system)
        return self._generate(
            prompt,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=[stop] if isinstance(stop, str) else stop,
            logprobs=logprobs,
        )


def _with_encoder(package: RunnablePackage, threads: int | None) -> Any:
    from graphopt.runtime import EncoderDecoder, Tokenizer

    if all(spec.name != "input_ids" for spec in package.interface().inputs):
        raise BadInput(f"{package.path} does not take text", hint="Run it with --inputs FILE.npz.")
    tokenizer, rules = Tokenizer(package.path), AnswerRules.of(package.path)
    encoder, decoder = (package.session(role, threads=threads) for role in ("encoder", "decoder"))
    model = EncoderDecoder(encoder, decoder, states=package.manifest.graphs["decoder"].states)

    def generate(
        prompt: str, *, max_new_tokens: int, sampling: Sampling, stop: Sequence[str], logprobs: int | None
    ) -> Answer:
        source = tokenizer.framed(prompt)
        steps = answer(model, rules, source, max_new_tokens, sampling)
        stops = [*rules.said.stops, *stop]
        return Answer(steps, tokenizer, rules.ends, prompt=len(source), stop=stops, top=logprobs)

    return generate
