"""What a turn has cost so far: requests, tokens, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import trio

from nanobot.context import messages_tokens, tool_tokens
from nanobot.messages import Message, ToolSpec, Usage

__all__ = ["Estimate", "Tally", "estimate_by_length"]

Estimate: TypeAlias = Callable[[Sequence[Message], Sequence[ToolSpec]], int]
"""How many tokens some messages and tool descriptions have, about."""


def estimate_by_length(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> int:
    """Estimate tokens from the lengths of texts."""
    return messages_tokens(messages) + tool_tokens(tools)


class Tally:
    """Counts one turn's requests, tokens and time on Trio's clock.

    Attributes:
      request_count: Requests that the service accepted.
      usage: Tokens of all of them, as reported or estimated.
      iteration_usage: The same, since `start_iteration`.
      estimated: Whether any of it is an estimate.
      ttft_ms: Milliseconds from the start of the turn to the first delta; None before that.
    """

    __slots__ = (
        "_estimate",
        "_started",
        "estimated",
        "iteration_usage",
        "request_count",
        "ttft_ms",
        "usage",
    )

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._started: float | None = None
        self.request_count = 0
        self.usage = Usage()
        self.iteration_usage = Usage()
        self.estimated = False
        self.ttft_ms: int | None = None

    def start(self) -> None:
        """The turn begins now."""
        self._started = trio.current_time()

    def start_iteration(self) -> None:
        """Another iteration begins now."""
        self.iteration_usage = Usage()

    def first_delta(self) -> None:
        """The model's first delta of this turn is there; later calls change nothing."""
        if self.ttft_ms is None:
            self.ttft_ms = self.elapsed_ms()

    def elapsed_ms(self) -> int:
        """Milliseconds since the start of the turn; 0 before it."""
        return 0 if self._started is None else round((trio.current_time() - self._started) * 1000)

    def count(self, reported: Usage) -> None:
        """Count the tokens of one request, as the provider reports them."""
        self.usage += reported
        self.iteration_usage += reported

    def count_estimate(
        self, shown: Sequence[Message], tools: Sequence[ToolSpec], said: Message
    ) -> None:
        """Count the tokens of one request that the provider did not count."""
        prompt = self._estimate(shown, tools)
        completion = self._estimate((said,), ())
        self.count(Usage(prompt, completion, prompt + completion))
        self.estimated = True
