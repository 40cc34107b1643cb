"""How far a turn may go."""

from __future__ import annotations

from msgspec import Struct

from nanobot.errors import InvalidArgument
from nanobot.tools import MAX_RESULT_CHARS

__all__ = ["Limits"]


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of one turn. Each is a number of times, or seconds where the name says so.

    Attributes:
      max_iterations: Answers of the model that may ask for tools. After the last one's tools ran, the model is asked
        once more, without tools, so that the user gets an answer; that closing answer is not counted.
      timeout_s: The whole turn, from start to answer. None: the provider's and the tools' own limits are the only ones.
      max_continuations: Times an answer that hit the token limit is continued. Three make an answer of four times
        `max_tokens`; a model that is still not done by then repeats itself.
      max_empty_retries: Times an empty answer is asked for again as it was, before the model is asked in plain words.
      max_tool_result_chars: Characters of one tool result that the model is shown.
      store_s: What one write to the journal may take. A disk in trouble stalls for some seconds; a store that is silent for
        longer is given up, and the turn goes on without it.
      settle_s: What each thing may take that a turn does although it was cancelled: one write to the journal, and one
        call of hooks for each of `finalize_content`, `on_error` and `on_finally`. Short, for somebody pressed stop.
    """

    max_iterations: int = 200
    timeout_s: float | None = None
    max_continuations: int = 3
    max_empty_retries: int = 1
    max_tool_result_chars: int = MAX_RESULT_CHARS
    store_s: float = 60.0
    settle_s: float = 5.0

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise InvalidArgument(f"max_iterations must be at least 1, not {self.max_iterations}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise InvalidArgument(f"timeout_s must be more than 0 seconds, not {self.timeout_s}")
        if self.max_continuations < 0 or self.max_empty_retries < 0:
            raise InvalidArgument("max_continuations and max_empty_retries cannot be negative")
        for name in ("store_s", "settle_s"):
            seconds = getattr(self, name)
            if not 0 < seconds < float("inf"):
                raise InvalidArgument(f"{name} must be a positive number of seconds, not {seconds}")
