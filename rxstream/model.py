"""The port to a model: the only thing that a model author implements.

The port is batched and step-wise, so that one lane can advance many conversations at once. A model
keeps nothing between calls except the decodings it handed out: memory goes in and comes out as an
immutable value ``M`` that the runtime never looks into.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from ._checks import is_number, is_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

M = TypeVar("M")

_LARGEST = 3.4e38
"""Models use numbers as float32."""

FinishReason = Literal["eos", "length", "stop_sequence"]
Channel = Literal["answer", "thinking", "tool_call"]
"""Which part of an interaction a generated token belongs to."""
Thinking = Literal["fast", "extended", "auto"]
"""After a query: the answer, thinking and then the answer, or what the model chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn. ``temperature=0`` is greedy: nothing is drawn at random."""

    temperature: float = 0.0
    top_k: int = 0
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probability reaches this."""
    max_tokens: int = 64
    """Longest answer, in tokens, its thinking and tool call included; the model may allow fewer."""
    seed: int | None = None
    """Same seed, same answer. None draws a fresh one."""
    min_p: float = 0.0
    """Keep tokens at least this share as probable as the most probable one; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Above 1, tokens of the query and of the answer so far become less probable."""
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    """Added to the logits of these tokens; -inf forbids one."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer (``finish`` is "stop_sequence"); they are not part of it. What is
    thought, and tool calls, may contain them."""

    def __post_init__(self) -> None:
        # No message is made where nothing is wrong: a bias may be as wide as the vocabulary.
        if not is_number(self.temperature, 0, _LARGEST):
            raise ValueError(f"temperature must be a number >= 0, not {self.temperature!r}")
        if not is_whole(self.top_k, 0):
            raise ValueError(f"top_k must be a whole number >= 0, not {self.top_k!r}")
        if not (is_number(self.top_p, 0, 1) and self.top_p > 0):
            raise ValueError(f"top_p must lie in (0, 1], not {self.top_p!r}")
        if not is_whole(self.max_tokens, 1):
            raise ValueError(f"max_tokens must be a whole number >= 1, not {self.max_tokens!r}")
        if not (self.seed is None or is_whole(self.seed, -math.inf)):
            raise ValueError(f"seed must be a whole number or None, not {self.seed!r}")
        if not is_number(self.min_p, 0, 1):
            raise ValueError(f"min_p must lie in [0, 1], not {self.min_p!r}")
        penalty = self.repetition_penalty
        if not (is_number(penalty, 0, _LARGEST) and penalty > 0):
            raise ValueError(f"repetition_penalty must be a number > 0, not {penalty!r}")
        if not isinstance(self.logit_bias, Mapping):
            raise ValueError(f"logit_bias takes numbers by id, not {self.logit_bias!r}")
        for token, bias in self.logit_bias.items():
            sane = is_number(bias, -_LARGEST, _LARGEST) or bias == -math.inf
            if not (is_whole(token, 0) and sane):
                raise ValueError(
                    f"logit_bias takes a number or -inf by id, not {token!r}: {bias!r}"
                )
        texts = (
            isinstance(self.stop, Collection)
            and not isinstance(self.stop, str)
            and all(isinstance(text, str) and text for text in self.stop)
        )
        if not texts:
            raise ValueError(f"stop takes texts, none of them empty, not {self.stop!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest(Generic[M]):
    """One query to be answered from one memory value."""

    query: str
    memory: M
    sampling: Sampling = field(default_factory=Sampling)
    thinking: Thinking = "fast"
    tools: bool = False
    """Whether the answer may hold a tool call."""
    tool_result: bool = False
    """The query is what a tool returned."""
    instruction: str = ""
    """What to follow while answering, beside the query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDraft:
    """One generated token.

    ``text`` may be empty: a token can be part of a character, and the rest comes with a later one.
    ``finish`` is set on the last draft of an answer; a draft that only ends the answer (end of
    sequence) has ``id`` of the end token and the text that was held back, usually "".
    """

    id: int
    text: str
    finish: FinishReason | None = None
    channel: Channel = "answer"
    """A token that only begins another part belongs to the part that it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedInteraction:
    """What is folded into memory, and what the interaction log keeps.

    ``token_ids`` are the ids of the generated answer: text alone does not always tokenise back to
    them, and a replay must encode exactly what was generated. Empty for an imported interaction,
    then the model tokenises ``answer``. ``thinking`` and ``tool_call`` are the other parts, with
    their ids; ``tool_result`` says that the query is what a tool returned; ``instruction`` stood
    beside it.
    """

    query: str
    answer: str
    token_ids: tuple[int, ...] = ()
    thinking: str = ""
    thinking_ids: tuple[int, ...] = ()
    tool_call: str = ""
    tool_call_ids: tuple[int, ...] = ()
    tool_result: bool = False
    instruction: str = ""


class ReactiveModel(Protocol[M]):
    """A stateful language model: query and memory in, tokens out, next memory computed after.

    All methods are called on lanes of the runtime, never concurrently with each other unless
    ``thread_safe`` is True (then ``encode`` and ``attend`` may run beside ``start/step/finish``).
    A lane is one thread, until a subscriber keeps it for ever: then another one takes its place, so
    leave nothing in thread-local state.

    A model that was trained to think, or to call tools, says so with an attribute ``channels``,
    such as ``frozenset({"answer", "thinking", "tool_call"})``. Without it the runtime rejects
    queries that ask for more than an answer (``unsupported``). One that was trained to follow an
    instruction beside a query says so with an attribute ``instructed`` that is True.
    """

    fingerprint: str
    """Identifies weights and memory layout; snapshots of another fingerprint are refused."""
    max_batch: int
    """How many decodings may be open at once."""
    thread_safe: bool

    def validate(self, query: str) -> None:
        """Raise ``QueryRejected`` (``too_long``, ``invalid``) when ``query`` cannot be answered.

        An instruction beside it is judged with it: a second call has both, a line each.
        """
        ...

    def initial_memory(self) -> M:
        """The memory of a conversation in which nothing was said."""
        ...

    def start(self, requests: Sequence[DecodeRequest[M]]) -> list[Any]:
        """Prefill the queries; returns one decoding (an opaque handle) for each."""
        ...

    def step(self, decodings: Sequence[Any]) -> list[TokenDraft]:
        """One token for each decoding. A decoding that has finished must not be stepped again."""
        ...

    def finish(self, decoding: Any) -> None:
        """Release what a decoding holds; same lane as ``step``, at any time, exactly once."""
        ...

    def encode(self, interactions: Sequence[CompletedInteraction]) -> list[Any]:
        """Encode completed interactions, independently of any memory."""
        ...

    def attend(self, memories: Sequence[M], encoded: Sequence[Any]) -> list[M]:
        """Fold one encoded interaction into each memory. Pure: returns new values."""
        ...

    def dump(self, memory: M) -> bytes:
        """The tensors of a memory as the bytes of a safetensors file, without metadata.

        A model with an attribute ``dump_thread_safe = True`` lets ``dump`` run beside all of its
        other methods: storing a version then takes no time from decoding.
        """
        ...

    def load(self, data: bytes) -> M:
        """Inverse of ``dump``.

        A model may also have ``distance(memory, other)``, the largest difference of two memories
        over the largest number: ``history.check`` tells rounding from damage by it.

        Raises:
            SnapshotIncompatible: another layout, or values that are not finite.
        """
        ...
