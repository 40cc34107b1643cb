"""When a session is compacted and what of it: decisions over counts, without a clock, a model or a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from nanobot.messages import AssistantMessage, Message, UserMessage

__all__ = ["Room", "overflows", "room_for_history", "suffix_start"]

_SUMMARY_TOKENS: Final = 4_000
"""Longest summary that is aimed at. Every request carries it; it is some 3,000 words, or ten pages."""

_LEAST_TOKENS: Final = 200
"""Below this, a summary and a suffix cannot both say anything: the window is taken up by other things."""


class Room(Struct, frozen=True, gc=False):
    """How the tokens that a request has for history are divided when it is compacted.

    Attributes:
      history: All of it; a history that reaches it is compacted.
      summary: What the summary should take at most.
      suffix: What the latest messages, which stay as they are, may take at most.
    """

    history: int
    summary: int
    suffix: int


def room_for_history(tokens: int, ratio: float) -> Room | None:
    """Divide the room, so that what is left after a compaction takes `ratio` of it; the rest is for turns to come.

    Args:
      tokens: What a request has for history, beside prompt, tools and answer.
      ratio: More than 0, less than 1: `consolidationRatio`.

    Returns:
      The division, or None if there is too little to divide.
    """
    if tokens < _LEAST_TOKENS:
        return None
    after = int(tokens * ratio)
    summary = min(_SUMMARY_TOKENS, after // 3)
    return Room(tokens, summary, after - summary)


def overflows(history_tokens: int, room: Room) -> bool:
    """Whether the history has to be compacted before the next turn."""
    return history_tokens >= room.history


def suffix_start(messages: Sequence[Message], weights: Sequence[int], limit: int) -> int:
    """Choose where the suffix begins that stays as it is; what is before it is summarized.

    The longest suffix that weighs no more than `limit` and opens with a user message. If the last turn alone is too
    heavy, it opens with an answer of the model in that turn, with whose calls the results stay; if even the last answer
    is, there is no suffix.

    Args:
      messages: A legal history, oldest first.
      weights: What each message weighs: its tokens, or 1.
      limit: The most that the suffix may weigh.

    Returns:
      The index of its first message; `len(messages)` if there is none, 0 if everything stays.
    """
    total = 0
    opens_turn: int | None = None
    opens_answer = len(messages)
    for index in range(len(messages) - 1, -1, -1):
        total += weights[index]
        if total > limit:
            break
        if index == 0 or isinstance(messages[index], UserMessage):
            opens_turn = index
        elif opens_turn is None and isinstance(messages[index], AssistantMessage):
            opens_answer = index
    return opens_answer if opens_turn is None else opens_turn
