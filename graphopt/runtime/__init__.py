"""Running packages: sessions for this machine, threads, decoding and text generation."""

from graphopt.runtime._bucketing import LengthBucketing, has_rows, measured_batch_tokens
from graphopt.runtime._chat import Message, chat_prompt
from graphopt.runtime._compiled import CompiledFile
from graphopt.runtime._context import (
    CompiledGraph,
    ContextCheck,
    add_provider,
    check_context,
    compile_context,
)
from graphopt.runtime._decode import Decoder
from graphopt.runtime._fallback import RECORDED, forbid_fallback
from graphopt.runtime._foreign import ForeignSession
from graphopt.runtime._foreign_decode import ForeignDecoder
from graphopt.runtime._generate import Answer, Completion, TextModel, TokenLogprob
from graphopt.runtime._given import GenerationConfig
from graphopt.runtime._installation import check_installation
from graphopt.runtime._interpreter import Interpreter
from graphopt.runtime._model import SECONDS, session_model
from graphopt.runtime._pieces import Pieces
from graphopt.runtime._plugin_providers import (
    open_on_devices,
    provider_devices,
    provider_starts,
    register_provider,
)
from graphopt.runtime._rules import TokenRules
from graphopt.runtime._sampling import Sampling
from graphopt.runtime._seq2seq import AnswerRules, EncoderDecoder, answer
from graphopt.runtime._session import (
    CPU,
    open_session,
    plain_options,
    plain_session,
    session_of,
    session_options,
    with_options,
)
from graphopt.runtime._settings import SessionSettings, provider_options, session_choices
from graphopt.runtime._specs import session_specs
from graphopt.runtime._speculate import Speculation
from graphopt.runtime._states import states_by_name
from graphopt.runtime._threads import cgroup_quota, default_threads, physical_cores
from graphopt.runtime._tokenizer import FramedText, Tokenizer, context_length
from graphopt.runtime._worker import RuntimeRefused, RuntimeWorker

__all__ = [
    "CPU",
    "RECORDED",
    "SECONDS",
    "Answer",
    "AnswerRules",
    "CompiledFile",
    "CompiledGraph",
    "Completion",
    "ContextCheck",
    "Decoder",
    "EncoderDecoder",
    "ForeignDecoder",
    "ForeignSession",
    "FramedText",
    "GenerationConfig",
    "Interpreter",
    "LengthBucketing",
    "Message",
    "Pieces",
    "RuntimeRefused",
    "RuntimeWorker",
    "Sampling",
    "SessionSettings",
    "Speculation",
    "TextModel",
    "TokenLogprob",
    "TokenRules",
    "Tokenizer",
    "add_provider",
    "answer",
    "cgroup_quota",
    "chat_prompt",
    "check_context",
    "check_installation",
    "compile_context",
    "context_length",
    "default_threads",
    "forbid_fallback",
    "has_rows",
    "measured_batch_tokens",
    "open_on_devices",
    "open_session",
    "physical_cores",
    "plain_options",
    "plain_session",
    "provider_devices",
    "provider_options",
    "provider_starts",
    "register_provider",
    "session_choices",
    "session_model",
    "session_of",
    "session_options",
    "session_specs",
    "states_by_name",
    "with_options",
]
