"""What a turn has cost so far: attempts, tokens, money, time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import trio

from nanobot.context import messages_tokens, tool_tokens
from nanobot.errors import ProviderError
from nanobot.messages import Message, ToolSpec, Usage
from nanobot.providers import ModelRequest
from nanobot.providers._cost import cost_usd

from ._attempt import Attempt, Outcome
from ._ledger import Ledger

__all__ = ["Estimate", "Tally", "estimate_by_length"]

Estimate: TypeAlias = Callable[[Sequence[Message], Sequence[ToolSpec]], int]
"""How many tokens some messages and tool descriptions have, about."""


def estimate_by_length(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> int:
    """Estimate tokens from the lengths of texts."""
    return messages_tokens(messages) + tool_tokens(tools)


class Tally:
    """The ledger of one turn: each attempt with what it took, and the sums. A `RequestWatch`; times are on Trio's clock.

    A request is begun by `begin`, and its answer by `answering`; it ends with `refused`, `broken_off` or `end`. Between them
    providers that make several attempts tell of each. So whatever happens, there is one line for each attempt.

    Attributes:
      attempts: All of them, in order.
      request_count: Attempts that a service accepted.
      usage: Tokens of all of them, as reported or estimated.
      iteration_usage: The same, since `start_iteration`.
      estimated: Whether any of it is an estimate.
      last_prompt_tokens: Of the last attempt of an iteration, as its service counted it; 0 if none did.
      answered_by: Provider and model of the last answer that began; None before.
      subagents: How many runs of subagents are counted in this.
      subagent_usage: Their part of `usage`.
      earlier: What runs before this one had spent on the turn, if it is one that goes on.
      ttft_ms: Milliseconds from the start of the turn to the first delta; None before that.
    """

    __slots__ = (
        "_asked",
        "_current",
        "_estimate",
        "_inside",
        "_iteration",
        "_request",
        "_started",
        "answered_by",
        "attempts",
        "earlier",
        "estimated",
        "iteration_usage",
        "last_prompt_tokens",
        "request_count",
        "subagent_usage",
        "subagents",
        "ttft_ms",
        "usage",
    )

    def __init__(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._started: float | None = None
        self._iteration: int | None = None
        self._request: ModelRequest | None = None  # that has no attempt yet
        self._current: Attempt | None = None  # that has not ended
        self._asked: ModelRequest | None = None  # by that
        self._inside: dict[Tally, None] = {}  # of subagents at work; insertion-ordered
        self.attempts: list[Attempt] = []
        self.request_count = 0
        self.usage = Usage()
        self.iteration_usage = Usage()
        self.estimated = False
        self.last_prompt_tokens = 0
        self.answered_by: tuple[str, str] | None = None
        self.subagents = 0
        self.subagent_usage = Usage()
        self.earlier: Tally | None = None
        self.ttft_ms: int | None = None

    @property
    def cost_usd(self) -> float | None:
        """US dollars for all attempts, by list price; None if the price of one is not known."""
        total = 0.0
        for attempt in self.attempts:
            if attempt.accepted:
                if attempt.cost_usd is None:
                    return None
                total += attempt.cost_usd
        return total

    def to_metadata(self) -> dict[str, Any]:
        """The ledger as results show it."""
        metadata: dict[str, Any] = {
            "attempts": [attempt.to_dict() for attempt in self.attempts],
            "cost": self.cost_usd,
            "request_count": self.request_count,
        }
        if self.earlier is not None:
            metadata["resumed"] = {
                "request_count": self.earlier.request_count,
                "usage": self.earlier.usage.to_dict(),
                "cost": self.earlier.cost_usd,
            }
        return metadata

    def start(self) -> None:
        """The turn begins now."""
        self._started = trio.current_time()

    def start_iteration(self, index: int) -> None:
        """Another iteration begins now."""
        self._iteration = index
        self.iteration_usage = Usage()

    def first_delta(self) -> None:
        """The model's first delta of this turn is there; later calls change nothing."""
        if self.ttft_ms is None:
            self.ttft_ms = self.elapsed_ms()

    def elapsed_ms(self) -> int:
        """Milliseconds since the start of the turn; 0 before it."""
        return 0 if self._started is None else round((trio.current_time() - self._started) * 1000)

    def begin(self, request: ModelRequest) -> None:
        """A request is made now."""
        self._request = request

    def another(self) -> Tally:
        """A new one that estimates as this one does."""
        return Tally(self._estimate)

    def join(self, subagent: Tally) -> None:
        """A subagent begins: what is written down meanwhile has what it has cost by then."""
        self._inside[subagent] = None

    def include(self, subagent: Tally) -> None:
        """Count all that the run of a subagent has cost; it belongs to the run, and to no iteration."""
        self._inside.pop(subagent, None)
        self.attempts += subagent.attempts
        self.request_count += subagent.request_count
        self.usage += subagent.usage
        self.estimated = self.estimated or subagent.estimated
        self.subagents += 1 + subagent.subagents
        self.subagent_usage += subagent.usage

    def to_ledger(self) -> Ledger:
        """What has ended, to be written down; of subagents that are at work as well."""
        ended = [attempt for attempt in self.attempts if attempt is not self._current]
        subagents, subagent_usage = self.subagents, self.subagent_usage
        for part in [inside.to_ledger() for inside in self._inside]:
            ended += part.attempts
            subagents += 1 + part.subagents
            subagent_usage = sum(
                (one.usage for one in part.attempts if one.usage is not None), subagent_usage
            )
        return Ledger(tuple(ended), subagents, subagent_usage)

    def go_on_from(self, ledger: Ledger) -> None:
        """Begin with what an earlier run of the turn had written down."""
        self._take_over(ledger)
        self.earlier = self.another()
        self.earlier._take_over(ledger)

    def _take_over(self, ledger: Ledger) -> None:
        self.attempts += ledger.attempts
        self.subagents = ledger.subagents
        self.subagent_usage = ledger.subagent_usage
        for attempt in ledger.attempts:
            self.request_count += attempt.accepted
            self.estimated = self.estimated or attempt.estimated
            if attempt.usage is not None:
                self.usage += attempt.usage

    # --- told by providers that make several attempts

    def asking(self, provider: str, request: ModelRequest) -> None:
        """An attempt begins; see `RequestWatch`."""
        self._request = None
        self._current = Attempt(provider, request.model, self._iteration)
        self._asked = request
        self.attempts.append(self._current)

    def accepted(self) -> None:
        """The service has accepted it; see `RequestWatch`."""
        if self._current is not None:
            self._current.accepted = True
            self.request_count += 1

    def failed(self, error: ProviderError, usage: Usage | None) -> None:
        """It failed before its answer had begun; see `RequestWatch`."""
        self.end("failed", usage, error=error)

    def prompt_tokens(self, request: ModelRequest) -> int:
        """Estimate what a request shows to the model; see `RequestWatch`."""
        return self._estimate(request.messages, request.tools)

    # --- told by whoever made the request

    def answering(self, provider: str) -> None:
        """The answer begins. `provider` was asked, if nobody said otherwise."""
        if self._request is not None:
            self.asking(provider, self._request)
            self.accepted()
        if self._current is not None:
            self.answered_by = (self._current.provider, self._current.model)

    def refused(self, provider: str, error: ProviderError) -> None:
        """There will be no answer. `provider` was asked, if nobody said otherwise."""
        if self._request is not None:
            self.asking(provider, self._request)
        self.failed(error, None)

    def broken_off(self, provider: str) -> None:
        """The request was cancelled before its answer had begun. `provider` was asked, if nobody said otherwise."""
        if self._request is not None:
            self.asking(provider, self._request)
        self.end("cancelled", None)

    def end(
        self,
        outcome: Outcome,
        usage: Usage | None,
        *,
        said: Message | None = None,
        error: BaseException | None = None,
    ) -> None:
        """An attempt has ended; without effect if it had before.

        Args:
          outcome: How.
          usage: What the service counted, if it did.
          said: What came of the answer, for an estimate where it did not.
          error: What went wrong.
        """
        attempt, request = self._current, self._asked
        if attempt is None or request is None:
            return
        self._current = self._asked = None
        attempt.outcome = outcome
        attempt.error = None if error is None else type(error).__name__
        if not attempt.accepted:
            return
        if usage is None or not usage.total_tokens:
            prompt = self.prompt_tokens(request)
            completion = 0 if said is None else self._estimate((said,), ())
            usage = Usage(prompt, completion, prompt + completion)
            attempt.estimated = self.estimated = True
        elif attempt.iteration is not None:
            self.last_prompt_tokens = usage.prompt_tokens
        attempt.usage = usage
        attempt.cost_usd = cost_usd(attempt.provider, attempt.model, usage)
        self.usage += usage
        self.iteration_usage += usage
