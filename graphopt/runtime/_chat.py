"""Messages of a chat, as the model's template words them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from graphopt.errors import BadInput
from graphopt.runtime._given import TokenizerConfig

__all__ = ["Message", "chat_prompt"]

Message = Mapping[str, Any]
"""What is said in a chat: "role" (system, user, assistant, ...), "content", and what else templates read."""

_FILE = "chat_template.jinja"
_MESSAGES = 'Give a list like [{"role": "user", "content": "Hello"}].'
_CONFIG = "tokenizer_config.json"


def chat_prompt(folder: str | Path, prompt: str | Sequence[Message], *, system: str | None = None) -> str:
    """A chat up to where the answer begins, by the template in `folder`.

    `prompt` are its messages, or its first one's content; `system` goes before them. The text of
    transformers' `apply_chat_template` with `add_generation_prompt`. Raises `BadInput` where there is no
    template, where it cannot be parsed, fails, or reaches out of jinja2's sandbox, and for messages without a
    role and a content.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise BadInput(f"{message!r} is not a message: it has no role", hint=_MESSAGES)
        if "content" not in message:
            raise BadInput(f"{message!r} is not a message: it has no content", hint=_MESSAGES)
    if not messages:
        raise BadInput("the chat has no messages", hint=_MESSAGES)
    config = TokenizerConfig.of(Path(folder), "special_tokens_map.json", _CONFIG)
    path, template = _template(Path(folder), config)
    try:
        text = (
            _environment()
            .from_string(template)
            .render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **config.model_dump(exclude={"chat_template"}, exclude_none=True),
            )
        )
        text.encode()  # halves of surrogate pairs are no text
    except TemplateSyntaxError as error:
        raise BadInput(
            f"the chat template in {path} is wrong at line {error.lineno}: {error.message}"
        ) from error
    except Exception as error:  # a template can make Python raise anything
        raise BadInput(f"the chat template in {path} fails: {error}") from error
    return text


def _template(folder: Path, config: TokenizerConfig) -> tuple[Path, str]:
    path, given = folder / _FILE, config.chat_template
    if path.is_file():
        try:
            return path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} is not a text file: {error}") from error
    if isinstance(given, list):
        given = {each.name: each.template for each in given}.get("default")
    if not given:
        raise BadInput(f"{folder} has no chat template", hint="Give it a plain text.")
    return folder / _CONFIG, given


def _environment() -> ImmutableSandboxedEnvironment:
    """What transformers lets a template use."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _to_json
    made.globals |= {
        "dict": _Dict(),
        "namespace": _namespace,
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return made


class _Generation(Extension):
    """`{% generation %}` around what the model says, for training."""

    tags = {"generation"}  # noqa: RUF012 -- as declared by jinja2

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Dict:
    """`dict` without methods like `dict.update`, which would change what the sandbox holds immutable."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """A namespace that cannot pass for something else by names like `__call__`."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a namespace cannot hold {name!r}")
        super().__setitem__(name, value)


def _namespace(*args: Any, **values: Any) -> _Namespace:
    made = _Namespace()
    for name, value in dict(*args, **values).items():
        made[name] = value
    return made


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own one escapes HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
