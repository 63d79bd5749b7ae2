"""What the settings beside a model say about generating text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from graphopt._settings import read_json
from graphopt.errors import BadInput

__all__ = ["GenaiConfig", "GenerationConfig", "TokenizerConfig"]

Token = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
Tokens = Token | Annotated[list[Token], Field(min_length=1)]


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


SpecialToken = Annotated[str | None, BeforeValidator(_content)]


class _Given(BaseModel):
    """Settings of which the fields are read, and all else is left alone."""

    @classmethod
    def of(cls, folder: Path, *names: str) -> Self:
        """What the files `names` in `folder` say, as far as they are there; the last one has precedence.

        Raises `BadInput` where one is damaged, or says what cannot be.
        """
        found: dict[str, Any] = {}
        for path in (folder / name for name in names):
            if not path.is_file():
                continue
            found |= {key: value for key, value in read_json(path).items() if value is not None}
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{folder / names[-1]}: {where}: {first['msg']}") from error


class GenerationConfig(_Given):
    """generation_config.json, and what config.json says of the same."""

    bos_token_id: Token | None = None
    eos_token_id: Tokens | None = None
    pad_token_id: Token | None = None
    decoder_start_token_id: Token | None = None
    forced_bos_token_id: Token | None = None
    bad_words_ids: list[list[Token]] = []
    suppress_tokens: list[Token] = []
    max_position_embeddings: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    length_penalty: float | None = None


class _Model(BaseModel):
    context_length: Annotated[int, Field(ge=1, lt=1 << 31)]
    eos_token_id: Tokens | None = None


class _Search(BaseModel):
    past_present_share_buffer: bool = False


class GenaiConfig(_Given):
    """genai_config.json, as far as our own loop needs it."""

    model: _Model
    search: _Search = _Search()


class _Template(BaseModel):
    name: str
    template: str


class TokenizerConfig(_Given):
    """tokenizer_config.json, and what special_tokens_map.json says of the same."""

    chat_template: str | list[_Template] | None = None
    bos_token: SpecialToken = None
    eos_token: SpecialToken = None
    unk_token: SpecialToken = None
    sep_token: SpecialToken = None
    pad_token: SpecialToken = None
    cls_token: SpecialToken = None
    mask_token: SpecialToken = None
