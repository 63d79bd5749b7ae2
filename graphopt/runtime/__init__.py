"""Running packages: sessions for this machine, threads, decoding and text generation."""

from graphopt.runtime._batches import Batches, has_rows, measured_tokens
from graphopt.runtime._chat import Message, chat_prompt
from graphopt.runtime._decode import Decoder
from graphopt.runtime._generate import Answer, Completion, TextModel, TokenLogprob
from graphopt.runtime._given import GenerationConfig
from graphopt.runtime._installation import check_installation
from graphopt.runtime._sampling import Sampling
from graphopt.runtime._seq2seq import AnswerRules, EncoderDecoder, answer
from graphopt.runtime._session import open_session, session_of, session_options
from graphopt.runtime._speculate import Speculation
from graphopt.runtime._threads import cgroup_quota, default_threads, physical_cores

__all__ = [
    "Answer",
    "AnswerRules",
    "Batches",
    "Completion",
    "Decoder",
    "EncoderDecoder",
    "GenerationConfig",
    "Message",
    "Sampling",
    "Speculation",
    "TextModel",
    "TokenLogprob",
    "answer",
    "cgroup_quota",
    "chat_prompt",
    "check_installation",
    "default_threads",
    "has_rows",
    "measured_tokens",
    "open_session",
    "physical_cores",
    "session_of",
    "session_options",
]
