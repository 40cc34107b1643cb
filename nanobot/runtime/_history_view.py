"""A session's history as a model is shown it, with what each message costs; grows with the session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from nanobot.context import (
    TextCounter,
    count_ahead,
    estimate_text,
    fit,
    message_tokens,
    shown_messages,
)
from nanobot.messages import (
    OPENING,
    AssistantMessage,
    Message,
    SystemMessage,
    UserMessage,
    repair,
)
from nanobot.sessions import Compaction, Position

__all__ = ["HistoryView", "count_shown_ahead"]

_SUMMARY = "[notes, from nanobot: what was said in this conversation before]\n{summary}"


class HistoryView:
    """What a model is shown of a session, made once and then only added to.

    The summary, if there is one, comes first, as a message of its own. Not as a section of the system prompt: that is the
    same for all sessions of a bot, so that a service that caches prefixes reads it once; and a summary is made of what
    users, tools and web pages said, which shall not speak with the system's authority.

    Attributes:
      position: Where the session stands.
      compaction: The summary, and how far it reaches.
      messages: The summary and what came after it, legal, with the notes of each turn in place. Not to be changed.
      tokens: About how many tokens they have.
      count: What counts them.
      unsummarizable: The tokens at which no usable summary could be had; 0 if that never happened.
    """

    __slots__ = ("compaction", "count", "messages", "position", "tokens", "unsummarizable")

    def __init__(
        self,
        position: Position,
        messages: Sequence[Message],
        compaction: Compaction | None,
        count: TextCounter = estimate_text,
    ) -> None:
        """`messages` are those after the summary, as they are stored."""
        self.position = position
        self.compaction = compaction
        self.messages: list[Message] = []
        self.tokens = 0
        self.count = count
        self.unsummarizable = 0
        if compaction is not None:
            self._show([UserMessage(_SUMMARY.format(summary=compaction.summary))])
        self._show(repair(messages, continues=True).history)

    @property
    def said(self) -> Sequence[Message]:
        """The messages without the summary. Not to be changed."""
        return self.messages if self.compaction is None else self.messages[1:]

    def extend(self, messages: Sequence[Message], position: Position) -> None:
        """Add what was just stored behind the rest; it must be a legal continuation."""
        self._show(messages)
        self.position = position

    def extended(self, messages: Sequence[Message]) -> HistoryView:
        """A copy with messages behind it that are not stored."""
        copy = HistoryView(self.position, messages, None, self.count)
        copy.compaction = self.compaction
        copy.messages = [*self.messages, *copy.messages]
        copy.tokens += self.tokens
        copy.unsummarizable = self.unsummarizable
        return copy

    def shown(self, opening: Sequence[Message], budget: int) -> list[Message]:
        """The messages of a request: the history between the system prompt and the user's message.

        Args:
          opening: The system prompt, if there is one, and the user's message.
          budget: The tokens that the history may take. Of a longer one the latest turns are shown, in whole, after the
            summary.
        """
        history = self.messages if self.tokens <= budget else self._latest(budget)
        first_said = next((said for said in history if not isinstance(said, SystemMessage)), None)
        front = [OPENING] if isinstance(first_said, AssistantMessage) else []
        return [*opening[:-1], *front, *history, opening[-1]]

    def _latest(self, budget: int) -> list[Message]:
        kept: list[Message] = []
        tokens_of = partial(message_tokens, count=self.count)
        if self.compaction is not None and (tokens := tokens_of(self.messages[0])) <= budget:
            kept = self.messages[:1]
            budget -= tokens
        said = self.messages[1:] if self.compaction is not None else self.messages
        window = fit(said, budget, tokens_of, current=len(said) - 1)
        return [*kept, *said[window.start :]] if window.fits else kept

    def _show(self, messages: Iterable[Message]) -> None:
        for message in messages:
            shown = _with_note(message) if isinstance(message, UserMessage) else message
            self.messages.append(shown)
            self.tokens += message_tokens(shown, self.count)


def _with_note(message: UserMessage) -> Message:
    return shown_messages("", (), message)[0]


async def count_shown_ahead(messages: Iterable[Message], count: TextCounter) -> None:
    """As `count_ahead`, for messages that a view is about to show."""
    if count is not estimate_text:
        shown = [_with_note(each) if isinstance(each, UserMessage) else each for each in messages]
        await count_ahead(shown, count)
