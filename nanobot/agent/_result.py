"""What a run hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

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
class RunResult:
    """What a run hands back: the answer, and what it took to get it.

    A model that failed is a result too: `error` is set, and `content` holds what arrived before the failure.

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
        `retryable`, `status` (HTTP) and `retry_after_s` (how long it asked us to wait), None where it did not say.
    """

    content: str
    tools_used: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    stop_reason: str | None = None
    error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
