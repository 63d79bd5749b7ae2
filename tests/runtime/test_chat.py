"""Chat templates: rendered as transformers does, and refused with a reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphopt import BadInput, Package
from graphopt.runtime import Tokenizer, chat_prompt
from tests._cache import ROOT
from tests.runtime.conftest import OPENING, change, opens_texts

PROMPT = '  Is 1 < 2 & "x" é\n{{ 1 }}?\n'
SYSTEM_DEFAULT = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{% for message in messages %}
  {% if message.role == 'assistant' %}
{% generation %}{{ message.content }}{% endgeneration %}
  {% endif %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}
"""
DATED = """\
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- if tools is not none or documents %}{{ raise_exception("no tools") }}{% endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + eos_token }}
{%- for message in messages %}
    {{- "<|start_header_id|>" ~ message.role ~ "<|end_header_id|>\\n\\n" }}
    {{- message.content | trim ~ eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{% endif %}
{{- sep_token }}
"""
CONTROLLED = """\
{% set ns = namespace(turns=0, last=none) %}
{% macro turn(message) %}[{{ message | tojson }} {{ [1, message.content] | tojson(indent=2) }}]{% endmacro %}
{% for i in range(9) %}
    {% if i is odd %}{% continue %}{% endif %}
    {% if i > 4 %}{% break %}{% endif %}
    {% set ns.turns = ns.turns + i %}
{% endfor %}
{{ ns.turns }} {{ dict(a='<b>') | tojson(sort_keys=true) }} {{ dict.fromkeys(['k'], 0) }}
{% for m in messages %}{{ turn(m) }}{{ m.content.split()[-1].strip() }}{% endfor %}
{% generation %}{% set ns.last = 'said' %}{% set hidden = 1 %}{% endgeneration %}
{{ ns.last }}{{ hidden is defined }}{{ unk_token }}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "models" / "tiny_coder" / name, tmp_path / name)
    return tmp_path


def configure(folder: Path, **values: Any) -> None:
    change(folder / "tokenizer_config.json", **values)


def theirs(folder: Path) -> str:
    from transformers import AutoTokenizer

    messages = [{"role": "user", "content": PROMPT}]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


@pytest.mark.parametrize("place", ["file", "config", "named"])
@pytest.mark.parametrize("template", [SYSTEM_DEFAULT, DATED, CONTROLLED])
def test_it_is_rendered_as_by_transformers(folder: Path, template: str, place: str) -> None:
    token = {"__type": "AddedToken", "content": OPENING, "lstrip": False, "special": True}
    configure(folder, eos_token=token)
    if place == "file":
        configure(folder, chat_template="only where there is no file")
        (folder / "chat_template.jinja").write_text(template)
    elif place == "config":
        configure(folder, chat_template=template)
    else:
        tool_use = {"name": "tool_use", "template": "tools"}
        configure(folder, chat_template=[tool_use, {"name": "default", "template": template}])

    text = chat_prompt(folder, PROMPT)

    assert text == theirs(folder)
    assert PROMPT.strip() in text or template == CONTROLLED


def test_special_tokens_may_be_named_in_a_file_of_their_own(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ bos_token }}{{ pad_token }}."}')
    (folder / "special_tokens_map.json").write_text('{"bos_token": {"content": "<|endoftext|>"}}')

    assert chat_prompt(folder, PROMPT) == f"{OPENING}." == theirs(folder)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("one\n{% if %}", r"wrong at line 2"),
        ("{% for m in messages %}", r"wrong at line 1"),
        ("{{ raise_exception('roles must alternate') }}", "fails: roles must alternate"),
        ("{{ messages[7].content.strip() }}", "fails"),
        ("{{ 1 / 0 }}", "fails: division by zero"),
        ("{% break %}", "fails"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: .*recursion"),
        ("{{ '\\ud800' }}", "fails: .*surrogates"),
        ("{% include 'tokenizer.json' %}", "fails"),
        ("{{ ''.__class__.__mro__ }}", "fails: access to attribute '__class__' .* unsafe"),
        ("{{ '{0.__class__.__mro__}'.format('') }}", "fails: access to attribute '__class__' .* unsafe"),
        ("{{ strftime_now.__globals__.json }}", "fails: access to attribute '__globals__' .* unsafe"),
        ("{{ messages.append(1) }}", "fails: .* unsafe|fails: .* not safely callable"),
        ("{{ dict.update(messages[0], role='x') }}", "fails"),
        ("{{ namespace(__call__=1) }}", "fails: a namespace cannot hold '__call__'"),
        ("{% set n = namespace() %}{% set n.__call__ = 1 %}", "fails: a namespace cannot hold '__call__'"),
        ("{{ range(1000000000) }}", "fails: Range too big"),
    ],
)
def test_a_template_that_fails(folder: Path, template: str, message: str) -> None:
    configure(folder, chat_template=template)

    with pytest.raises(BadInput, match=rf"tokenizer_config\.json .*{message}"):
        chat_prompt(folder, PROMPT)


@pytest.mark.parametrize("given", [None, "", [{"name": "tool_use", "template": "tools"}]])
def test_no_template(folder: Path, given: Any) -> None:
    configure(folder, chat_template=given)

    with pytest.raises(BadInput, match="no chat template"):
        chat_prompt(folder, PROMPT)


def test_damaged_files(folder: Path) -> None:
    configure(folder, chat_template=[1])
    with pytest.raises(BadInput, match=r"tokenizer_config\.json: chat_template"):
        chat_prompt(folder, PROMPT)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadInput, match=r"tokenizer_config\.json is not JSON"):
        chat_prompt(folder, PROMPT)
    (folder / "tokenizer_config.json").unlink()
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"chat_template\.jinja is not a text file"):
        chat_prompt(folder, PROMPT)


@pytest.fixture
def package(tiny_coder_at: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """tiny-coder on onnxruntime's kernels, with a template that opens a text as the tokenizer does."""
    monkeypatch.setenv("GRAPHOPT_KERNELS", "onnxruntime")
    folder = Path(shutil.copytree(tiny_coder_at("int4"), tmp_path / "chat"))
    opens_texts(folder)
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}def {{ messages[0].content }}(n):\n    return"
    )
    return Package.load(folder)


def test_a_text_opens_once(package: Package) -> None:
    tokens = Tokenizer(package.path).prompt(chat_prompt(package.path, "area"), 512)

    assert (tokens[0], tokens.count(0)) == (0, 1)


def test_a_chat_is_answered_like_its_words(package: Package) -> None:
    chats = [package.generate("area", max_new_tokens=12, chat=True)]
    chats.append(package.generate("area", max_new_tokens=12, chat=True, speculate=True))
    chats.append(package.generate([{"role": "user", "content": "area"}], max_new_tokens=12))

    assert set(chats) == {package.generate("def area(n):\n    return", max_new_tokens=12)}
