"""An answer as the runtime is given it: which part a token belongs to, and its text; and back, a
completed interaction as the ids that are folded into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxstream.model import TokenDraft
from rxtmodel.stops import StopStrings

from .tokenizer import IncrementalDetokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxstream.model import Channel, CompletedInteraction, FinishReason
    from rxtmodel.template import Section

    from .tokenizer import Tokenizer

_CHANNELS: dict[Section, Channel] = {
    "answer": "answer", "thinking": "thinking", "tool_call": "tool_call"
}  # fmt: skip


class Drafts:
    """Of tokens that have a text of their own, whatever comes before: each is made once.

    Hundreds of answers may wait while one thread says what each of their tokens means.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.special = tokenizer.tokens.all_special
        self.of: dict[Section, dict[int, TokenDraft]] = {section: {} for section in _CHANNELS}


class Parts:
    """Makes drafts of the tokens of one answer.

    Args:
        section: where it stands after its prompt.
        tools: whether it may hold a tool call.
        stops: texts that end it when they come in the answer itself.
    """

    __slots__ = ("_detokenizer", "_drafts", "_known", "_section", "_stops", "_tools")

    def __init__(self, drafts: Drafts, section: Section, tools: bool, stops: Sequence[str]) -> None:
        self._drafts, self._tools, self._stops = drafts, tools, StopStrings(stops)
        self._begin(section)

    def _begin(self, section: Section) -> None:
        self._section = section
        self._detokenizer = IncrementalDetokenizer(self._drafts.tokenizer)
        self._known = self._looked_up()

    def _looked_up(self) -> dict[int, TokenDraft]:
        """Drafts that can be the next one as they are: none inside a character, none where what
        is held back for a string that may end the answer comes first."""
        stops = self._stops.stops and self._section == "answer"
        return {} if stops or not self._detokenizer.between else self._drafts.of[self._section]

    def push(self, token: int, last: bool) -> TokenDraft:
        """The draft of the next token. A mark that begins a part belongs to the one it ends."""
        if not last and (draft := self._known.get(token)) is not None:
            return draft
        known = self._known
        draft = self._push(token, last)
        self._known = self._looked_up()
        if known is self._known and draft.finish is None and token not in self._drafts.special:
            known[token] = draft  # neither what came before nor what comes after is in it
        return draft

    def _push(self, token: int, last: bool) -> TokenDraft:
        tokens, section = self._drafts.tokenizer.tokens, self._section
        ended: FinishReason | None = "length" if last else None
        mark = token in self._drafts.special
        if mark:
            # A part may come once, in the order of the template; whatever else is drawn ends it.
            allowed = tokens.allowed(section, tools=self._tools)
            begins = token in allowed and token not in tokens.all_ends
            ended = ended if begins else "eos"
            text = self._detokenizer.finish()
            self._begin(tokens.section_after(section, token))
        else:
            text = self._detokenizer.push(token)
            if ended is not None:
                text += self._detokenizer.finish()
        if section == "answer":
            text = self._stops.push(text)
            if self._stops.found is not None:
                ended = "stop_sequence"
            elif mark or ended is not None:
                text += self._stops.finish()
        return TokenDraft(id=token, text=text, finish=ended, channel=_CHANNELS[section])


def interaction_ids(tokenizer: Tokenizer, done: CompletedInteraction) -> list[int]:
    """A completed interaction by the whole template.

    Raises ConfigError where the model has no token for a part of it.
    """
    return tokenizer.tokens.interaction_ids(
        tokenizer.encode(done.query),
        _said(tokenizer, done.answer, done.token_ids),
        thinking=_said(tokenizer, done.thinking, done.thinking_ids),
        tool_call=_said(tokenizer, done.tool_call, done.tool_call_ids),
        internal=tokenizer.encode(done.instruction) if done.instruction else (),
        tool_result=done.tool_result,
    )


def _said(tokenizer: Tokenizer, text: str, generated: Sequence[int]) -> list[int]:
    """What was generated, as far as it was said: neither marks nor the string that stopped it."""
    special = tokenizer.tokens.all_special
    ids = [token for token in generated if token not in special]
    if not ids:
        return tokenizer.encode(text) if text else []
    if len(tokenizer.decode(ids)) <= len(text):
        return ids
    if tokenizer.leads:
        return tokenizer.encode(text) if text else []
    while ids and not text.startswith(tokenizer.decode(ids)):
        ids.pop()
    return ids + tokenizer.encode(text[len(tokenizer.decode(ids)) :])
