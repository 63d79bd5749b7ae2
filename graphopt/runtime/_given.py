"""What the settings beside a model say about generating text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from graphopt.errors import BadInput
from graphopt.io import read_json

__all__ = [
    "GENAI",
    "GENERATION",
    "GenaiConfig",
    "GenerationConfig",
    "TokenizerConfig",
    "ids",
]

GENAI, GENERATION = "genai_config.json", "generation_config.json"

Token = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
Tokens = Token | Annotated[list[Token], Field(min_length=1)]


def ids(given: int | list[int] | None) -> list[int]:
    """The token ids of a setting that may be one, several or none."""
    return [] if given is None else given if isinstance(given, list) else [given]


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
    forced_eos_token_id: Tokens | None = None
    bad_words_ids: list[Annotated[list[Token], Field(min_length=1)]] = []
    sequence_bias: list[tuple[Annotated[list[Token], Field(min_length=1)], float]] = []
    suppress_tokens: list[Token] = []
    begin_suppress_tokens: list[Token] = []
    min_length: int | None = None
    min_new_tokens: int | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None
    remove_invalid_values: bool | None = None
    stop_strings: str | list[str] | None = None
    num_beams: int | None = None
    guidance_scale: float | None = None
    encoder_repetition_penalty: float | None = None
    encoder_no_repeat_ngram_size: int | None = None
    max_position_embeddings: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] | None = None
    length_penalty: float | None = None

    @property
    def unheeded(self) -> dict[str, float]:
        """What it asks for that our loop does not do."""
        usual = {"num_beams": 1, "guidance_scale": 1, "encoder_repetition_penalty": 1}
        usual["encoder_no_repeat_ngram_size"] = 0
        said = {name: getattr(self, name) for name in usual}
        return {name: value for name, value in said.items() if value not in (None, usual[name])}

    @property
    def stops(self) -> list[str]:
        """Strings that end a text."""
        said = self.stop_strings
        return [said] if isinstance(said, str) else said or []


class _Model(BaseModel):
    context_length: Annotated[int, Field(ge=1, lt=1 << 31)]
    vocab_size: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    eos_token_id: Tokens | None = None


class _Search(GenerationConfig):
    past_present_share_buffer: bool = False


class _Ours(BaseModel):
    restart_at: Annotated[int, Field(ge=1)] | None = None


class GenaiConfig(_Given):
    """genai_config.json, as far as the native decode loop needs it, and what onnxruntime-genai cannot say."""

    model: _Model
    search: _Search = _Search()
    graphopt: _Ours = _Ours()


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
