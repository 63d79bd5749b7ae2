"""Running packages: sessions for this machine, threads, decoding and text generation."""

from graphopt.runtime._decode import Decoder
from graphopt.runtime._generate import Sampling, TextModel
from graphopt.runtime._given import GenerationConfig
from graphopt.runtime._installation import check_installation
from graphopt.runtime._loop import LoopModel
from graphopt.runtime._ragged import Ragged, takes_ragged
from graphopt.runtime._seq2seq import AnswerRules, EncoderDecoder, answer
from graphopt.runtime._session import open_session, session_options
from graphopt.runtime._speculate import Speculation
from graphopt.runtime._threads import cgroup_quota, default_threads, physical_cores

__all__ = [
    "AnswerRules",
    "Decoder",
    "EncoderDecoder",
    "GenerationConfig",
    "LoopModel",
    "Ragged",
    "Sampling",
    "Speculation",
    "TextModel",
    "answer",
    "cgroup_quota",
    "check_installation",
    "default_threads",
    "open_session",
    "physical_cores",
    "session_options",
    "takes_ragged",
]
