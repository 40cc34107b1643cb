"""How much of a history fits what a model can read: a pure choice of where to begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from nanobot.messages import Message, UserMessage

__all__ = ["Window", "fit", "history_budget"]

_RESERVE_TOKENS: Final = 1_024
"""Room for what an estimate misses: chat templates, and the note of the turn."""


class Window(Struct, frozen=True, gc=False):
    """The part of a history to show.

    Attributes:
      start: Index of its first message: a user message that opens a turn, or 0.
      tokens: What it costs, counted.
      fits: Whether that is within the budget. Only a current turn that is too long by itself makes it false.
    """

    start: int
    tokens: int
    fits: bool


def history_budget(context_window: int, max_tokens: int, *, fixed_tokens: int = 0) -> int:
    """Return how many tokens of history a request has room for: what the answer and everything fixed leave; >= 0.

    Args:
      context_window: What the model can read and write together.
      max_tokens: What the answer may take.
      fixed_tokens: What the system prompt and the tools take.
    """
    return max(0, context_window - max_tokens - fixed_tokens - _RESERVE_TOKENS)


def fit(
    history: Sequence[Message],
    budget: int,
    tokens_of: Callable[[Message], int],
    *,
    current: int | None = None,
) -> Window:
    """Choose the longest suffix of whole turns that fits the budget.

    A turn opens with a user message, so a call is never parted from its result. The current turn is always kept. Looks
    only at the messages it keeps, and at those of the first turn that no longer fits.

    Args:
      history: Legal messages, oldest first, the current turn last.
      budget: Tokens, as from `history_budget`.
      tokens_of: Counts one message.
      current: Index of the message that opened the current turn; None is the last user message.
    """
    total = 0
    start = kept = -1
    for index in range(len(history) - 1, -1, -1):
        message = history[index]
        total += tokens_of(message)
        if start >= 0 and total > budget:
            break
        opens = index == 0 or isinstance(message, UserMessage)
        if opens and (current is None or index <= current):
            start, kept = index, total
    if start < 0:  # an empty history
        return Window(0, 0, True)
    return Window(start, kept, kept <= budget)
