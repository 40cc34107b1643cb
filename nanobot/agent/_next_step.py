"""What to do with an answer of the model: a decision, taken on plain facts."""

from __future__ import annotations

from enum import Enum, auto

from nanobot.messages import FinishReason

from ._limits import Limits

__all__ = ["Step", "next_step"]


class Step(Enum):
    """What a turn does next."""

    ANSWERED = auto()
    """The text is the answer."""
    RUN_TOOLS = auto()
    """Run the tools it asked for, then ask again."""
    REFUSE_CALLS = auto()
    """Tell the model that its calls were cut off, and ask again."""
    CONTINUE = auto()
    """Ask for the rest of a text that was cut off."""
    ASK_AGAIN = auto()
    """Send the same request once more: nothing came."""
    ASK_PLAINLY = auto()
    """Ask for an answer in words, without tools: still nothing came."""
    GIVE_UP = auto()
    """Nothing came, however it was asked."""
    FILTERED = auto()
    """The service's content filter ended the answer."""


def next_step(
    finish_reason: FinishReason,
    *,
    has_text: bool,
    has_calls: bool,
    closing: bool,
    continuations: int,
    empty_answers: int,
    limits: Limits,
) -> Step:
    """Decide what follows one request of an iteration.

    Args:
      finish_reason: Why the model stopped.
      has_text: Whether the iteration's text so far, over all its requests, is more than white space.
      has_calls: Whether this answer asks for tools.
      closing: Whether tools were forbidden; calls of a model that does not care are ignored then.
      continuations: Requests of this iteration that asked for the rest of a text.
      empty_answers: Earlier answers of this iteration that held nothing.
      limits: The turn's bounds.

    A call is run only if the model meant to stop where it stopped. After "length" the last call is incomplete, and
    which one is the last cannot be told from the earlier ones of the same answer, so none is run. "unknown" is what
    compatible servers with words of their own end up as; a call that was cut off there fails as invalid JSON at the
    latest.
    """
    if finish_reason == "content_filter":
        return Step.FILTERED
    if has_calls and not closing:
        return Step.REFUSE_CALLS if finish_reason == "length" else Step.RUN_TOOLS
    if has_text:
        cut = finish_reason == "length" and continuations < limits.max_continuations
        return Step.CONTINUE if cut else Step.ANSWERED
    if closing:
        return Step.GIVE_UP
    return Step.ASK_AGAIN if empty_answers < limits.max_empty_retries else Step.ASK_PLAINLY
