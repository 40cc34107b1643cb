"""The body of an answer that a service has begun, read under the limits of its endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import httpx
import trio

from nanobot.errors import ConnectionFailed, ProviderError, ProviderTimeout, TimeoutPhase

from ._endpoint import Timeouts
from ._http_errors import chained, without_secrets
from ._transport import PooledStream

__all__ = ["AnswerBody"]

_CLOSE_WITHIN_S: Final = 5.0
"""Our own transport closes at once; this bounds one that was handed in."""

_END_WITHIN_S: Final = 0.25
"""The few bytes that end an HTTP body follow the last event at once. A server that does not send them costs a
connection, and must not cost the caller time."""


class AnswerBody:
    """Owns the connection of one response until the body is at its end or `aclose` was called, whatever comes
    first.

    Args:
      response: Accepted, body unread.
      provider: Name of the provider, for errors.
      timeouts: The endpoint's limits.
      sent_at: Trio time at which the request was sent; the first silence counts from there.
      deadline: Trio time by which the whole answer must be there.
      secrets: Texts that must not appear in errors.

    Attributes:
      content_type: Of the response, without parameters, in lower case; "" if it says nothing.
      bytes_read: How much of the body has arrived.
    """

    def __init__(
        self,
        response: httpx.Response,
        *,
        provider: str,
        timeouts: Timeouts,
        sent_at: float,
        deadline: float,
        secrets: Sequence[str] = (),
    ) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self.provider = provider
        self.secrets = secrets
        self.content_type = (
            response.headers.get("content-type", "").partition(";")[0].strip().lower()
        )
        self.bytes_read = 0
        self._response = response
        self._pieces: AsyncIterator[bytes] = aiter(response.stream)
        # Our own transport lets go of a connection without waiting; others need a shield and a bound for it.
        self._pooled = response.stream if isinstance(response.stream, PooledStream) else None
        self._timeouts = timeouts
        self._sent_at = sent_at
        self._deadline = deadline
        self._ended = False
        self._closed = False

    async def read(self, *, within_s: float | None = None) -> bytes:
        """Return what one network read brought, or b"" at the end of the body.

        Args:
          within_s: Bounds this read instead of the endpoint's limit for silence.

        Raises:
          ProviderTimeout: The service was silent past a limit, or the whole answer took too long.
          ConnectionFailed: The connection broke, or was closed from this side.

        After an error or a cancellation the connection is closed.
        """
        if self._ended:
            return b""
        limits = self._timeouts
        phase: TimeoutPhase = "between_tokens" if self.bytes_read else "first_token"
        if self.bytes_read:
            limit_s = limits.between_tokens_s if within_s is None else within_s
            deadline = trio.current_time() + limit_s
        else:
            limit_s = limits.first_token_s
            deadline = self._sent_at + limit_s
        if deadline >= self._deadline:
            phase, limit_s, deadline = "request", limits.request_s, self._deadline
        received = b""
        failure: ProviderError | None = None
        try:
            with trio.CancelScope(deadline=deadline) as scope:
                received = await anext(self._pieces, b"")
        except (httpx.TransportError, httpx.StreamError) as exc:
            await self.aclose()
            reason = without_secrets(str(exc), self.secrets) or type(exc).__name__
            failed = ConnectionFailed(f"{self.provider}: {reason}", provider=self.provider)
            failure = chained(failed, exc, self.secrets)
        except BaseException:
            await self.aclose()
            raise
        if failure is not None:
            raise failure
        if scope.cancelled_caught:
            await self.aclose()
            raise self._timed_out(phase, limit_s)
        if received:
            self.bytes_read += len(received)
        else:
            self._ended = True
            await self.aclose()
        return received

    async def finish(self) -> None:
        """Let go of the connection after the last event: read the end of the body if it is there, so that it
        can be reused.

        Never raises but for a cancellation; either way the connection is not ours any more.
        """
        if self._pooled is not None and self._pooled.complete:
            return
        try:
            with trio.move_on_after(_END_WITHIN_S):
                while not self._ended:
                    self._ended = not await anext(self._pieces, b"")
        except httpx.TransportError:
            pass  # what was asked for is here
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end. Idempotent; bounded, also when cancelled."""
        if self._closed:
            return
        self._closed = True
        if self._pooled is not None:
            self._pooled.discard()
            return
        with trio.move_on_after(_CLOSE_WITHIN_S, shield=True):
            try:
                close_pieces = getattr(self._pieces, "aclose", None)
                if close_pieces is not None:  # a generator of somebody else's transport
                    await close_pieces()
            finally:
                await self._response.aclose()

    def _timed_out(self, phase: TimeoutPhase, limit_s: float) -> ProviderTimeout:
        what = {
            "first_token": f"did not begin to answer within {limit_s:g} s",
            "between_tokens": f"fell silent for {limit_s:g} s in the middle of its answer",
            "request": f"did not finish its answer within {limit_s:g} s",
        }[phase]
        return ProviderTimeout(
            f"{self.provider} {what}", provider=self.provider, phase=phase, limit_s=limit_s
        )
