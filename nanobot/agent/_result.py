"""What a run hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

from nanobot.errors import NoOutput
from nanobot.messages import Message, to_openai

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only there with a default, before Python 3.13

    T_co = TypeVar("T_co", covariant=True, default=None)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["RunResult", "StopReason"]

StopReason: TypeAlias = Literal[
    "completed",
    "max_iterations",
    "error",
    "cancelled",
    "empty_response",
    "consumer_stalled",
    "timeout",
    "budget",
    "parked",
]
"""Why a run stopped. `RunResult.error` is None for completed, max_iterations, empty_response and parked, and set for the others.
A run that is parked has no answer yet: its turn waits in the store for an approval, and `bot.resume` goes on with it."""


@dataclass(slots=True)
class RunResult(Generic[T_co]):
    """What a run hands back: the answer, and what it took to get it.

    A model that failed is a result too: `error` is set, and `content` holds what arrived before the failure. For type
    checkers it is `RunResult[T]` after `run(..., output_type=T)`, and `RunResult[None]` or just `RunResult` otherwise.

    Attributes:
      content: The final answer as text; after a failure or a cancel the part that was there.
      tools_used: Names of the tools whose call succeeded, in the order of the calls, repeats kept.
      messages: All that the model was shown and said, in OpenAI chat shape, the system message first.
      usage: `prompt_tokens`, `completion_tokens` and `total_tokens` summed over the run's requests, and
        `cached_tokens`, `cache_write_tokens` or `reasoning_tokens` where the provider reports them.
        What subagents used is part
        of it. `metadata["usage_estimated"]` is True if some are our estimate.
      stop_reason: Why the run stopped, see `StopReason`.
      error: What went wrong, in words; None if nothing did.
      metadata: `latency_ms`, `ttft_ms` (from the start of the turn to the model's first delta, None without one),
        `model` and `provider` (who gave the last answer, which may be a fallback), `iterations`, `request_count`,
        `finish_reason`, `attempts` (a dict for each attempt at a request, see `Attempt`), `cost` (US dollars by list price
        for all of them, None if a price is not known), `persisted` (False if the turn could not be stored, and then
        `store_error` says why), and `subagents` (how many `runs` there were inside this one, and their part of the
        `usage`). `approval` is what a parked run waits for (its `id`, `name`, `arguments`, `expires_at`), `replaced` is True
        if another run took the place of this one, `steered` if the message went into the turn of another, whose result
        this is. If an exception was behind a failure, `exception_type`; if it was the model service's,
        `retryable`, `status` (HTTP) and `retry_after_s` (how long it asked us to wait), None where it did not say; if it was
        an answer of the wrong type, `raw_output`.
    """

    content: str
    tools_used: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    stop_reason: str | None = None
    error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    _output: Any = field(default=None, repr=False)
    _said: tuple[Message, ...] = field(default=(), init=False, repr=False, compare=False)

    def _messages_from(self, said: Sequence[Message]) -> None:
        """Have `messages` made of these when they are first asked for: most who want an answer never ask."""
        self._said = tuple(said)
        del self.messages

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for what is not there, which `messages` are until somebody asks for them."""
            if name != "messages":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            self.messages = [to_openai(message) for message in self._said]
            return self.messages

    @property
    def output(self) -> T_co:
        """The answer as a value of `output_type`; None for a run without one.

        Raises:
          NoOutput: The run failed, so there is none; its `raw` is what the model said.
        """
        if self.error is not None:
            raise NoOutput(self.error, self.metadata.get("raw_output", self.content))
        output: T_co = self._output
        return output
