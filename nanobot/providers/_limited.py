"""A provider around a provider: every request waits for its turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from nanobot.errors import RateLimited
from nanobot.messages import Delta, Message, TextPart, UsageDelta

from ._connection_count import ConnectionCount, connections_of
from ._limiter import Limiter
from ._provider import DeltaStream, ModelRequest, Provider
from ._rate_gate import Pass

__all__ = ["Limited"]

_CHARS_PER_TOKEN: Final = 4
"""Of English; for requests that nobody watches, who would estimate better."""


class Limited:
    """Sends a request when the limiter lets it go, and tells the limiter what the service said to it.

    Args:
      provider: Whom to ask.
      limiter: Shared by all who ask with the same key.
      patience_s: For how long a request waits because the service refused another one; it fails if that would take longer.

    Attributes:
      name: The name of the provider inside.
    """

    def __init__(
        self, provider: Provider, limiter: Limiter, *, patience_s: float = math.inf
    ) -> None:
        self.name = provider.name
        self._provider = provider
        self._limiter = limiter
        self._patience_s = patience_s

    async def open(self, request: ModelRequest) -> DeltaStream:
        """Wait, then send the request; as `Provider.open`. It counts as out until its stream is closed.

        Raises:
          RateLimited: Also if the service refused another request, and wants to be left alone for too long.
        """
        limiter = self._limiter
        tokens = _tokens_asked_for(request) if limiter.counts_tokens else 0
        taken = await limiter.enter(tokens, patience_s=self._patience_s)
        if taken is None:
            pause_s = limiter.pause_s()
            raise RateLimited(
                f"{self.name} refused an earlier request, and wants to be left alone for another {pause_s:.0f} s",
                provider=self.name,
                retry_after_s=pause_s,
            )
        try:
            stream = await self._provider.open(request)
        except BaseException as error:
            if isinstance(error, RateLimited):
                limiter.refused(taken, error.retry_after_s)
            limiter.leave(taken)
            raise
        limiter.accepted()
        return _LimitedStream(stream, limiter, taken)

    def connections(self) -> ConnectionCount:
        """How many connections the provider inside holds. From any thread."""
        return connections_of(self._provider)

    async def aclose(self) -> None:
        """Close the provider inside."""
        await self._provider.aclose()


class _LimitedStream:
    """An answer that holds a pass, and gives it back when it has ended."""

    def __init__(self, stream: DeltaStream, limiter: Limiter, taken: Pass) -> None:
        self._stream = stream
        self._limiter = limiter
        self._taken: Pass | None = taken
        self._tokens: int | None = None

    def __aiter__(self) -> _LimitedStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        try:
            batch = await self._stream.__anext__()
        except BaseException as error:
            if isinstance(error, RateLimited) and self._taken is not None:
                self._limiter.refused(self._taken, error.retry_after_s)
            self._leave()
            raise
        if self._limiter.counts_tokens:
            for delta in batch:
                if type(delta) is UsageDelta and delta.usage.total_tokens:
                    self._tokens = delta.usage.total_tokens
        return batch

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._leave()

    def _leave(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            self._limiter.leave(taken, self._tokens)


def _tokens_asked_for(request: ModelRequest) -> int:
    prompt = (
        sum(map(_chars, request.messages)) // _CHARS_PER_TOKEN
        if request.watch is None
        else request.watch.prompt_tokens(request)
    )
    return prompt + (request.max_tokens or 0)


def _chars(message: Message) -> int:
    if isinstance(message.content, str):
        return len(message.content)
    return sum(len(part.text) for part in message.content if isinstance(part, TextPart))
