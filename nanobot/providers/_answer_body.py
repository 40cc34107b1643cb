"""The body of an answer that a service has begun, read under the limits of its endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from nanobot.errors import ConnectionFailed, ProviderError, ProviderTimeout, TimeoutPhase

from ._endpoint import Timeouts
from ._exchange import Exchange
from ._http_errors import chained, without_secrets
from ._transport_errors import TransportError, TransportTimeout

__all__ = ["AnswerBody"]

_END_WITHIN_S: Final = 0.25
"""The few bytes that end an HTTP body follow the last event at once. A server that does not send them costs a
connection, and must not cost the caller time."""


class AnswerBody:
    """Owns the connection of one response until the body is at its end or `close` was called, whatever comes
    first.

    Args:
      exchange: Accepted, body unread.
      provider: Name of the provider, for errors.
      timeouts: The endpoint's limits.
      deadline: Trio time by which the whole answer must be there.
      secrets: Texts that must not appear in errors.

    Attributes:
      content_type: Of the response, without parameters, in lower case; "" if it says nothing.
      bytes_read: How much of the body has arrived.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        provider: str,
        timeouts: Timeouts,
        deadline: float,
        secrets: Sequence[str] = (),
    ) -> None:
        self.provider = provider
        self.secrets = secrets
        content_type = exchange.head.headers.get("content-type", "")
        self.content_type = content_type.partition(";")[0].strip().lower()
        self.bytes_read = 0
        self._exchange = exchange
        self._timeouts = timeouts
        self._deadline = deadline

    async def read(self, *, within_s: float | None = None) -> bytes:
        """Return what one network read brought, or b"" at the end of the body. Not always a checkpoint: what came with the
        head of the response is there at once.

        Args:
          within_s: Bounds this read instead of the endpoint's limit for silence.

        Raises:
          ProviderTimeout: The service was silent past a limit, or the whole answer took too long.
          ConnectionFailed: The connection broke, or was closed from this side.

        After an error or a cancellation the connection is closed.
        """
        exchange = self._exchange
        failure: ProviderError | None = None
        try:
            received = exchange.read_nowait()
        except TransportError as exc:
            failure = self._failed(exc)
        if failure is not None:
            raise failure
        if received or exchange.complete:
            self.bytes_read += len(received)
            return received
        limits = self._timeouts
        phase: TimeoutPhase = "between_tokens" if self.bytes_read else "first_token"
        if self.bytes_read:
            limit_s = limits.between_tokens_s if within_s is None else within_s
            deadline = trio.current_time() + limit_s
        else:
            limit_s = limits.first_token_s
            deadline = exchange.sent_at + limit_s
        if deadline >= self._deadline:
            phase, limit_s, deadline = "request", limits.request_s, self._deadline
        try:
            received = await exchange.read(deadline)
        except TransportTimeout:
            failure = self._timed_out(phase, limit_s)
        except TransportError as exc:
            failure = self._failed(exc)
        if failure is not None:
            raise failure
        self.bytes_read += len(received)
        return received

    async def finish(self) -> None:
        """Let go of the connection after the last event: read the end of the body if it is there, so that it
        can be reused.

        Never raises but for a cancellation; either way the connection is not ours any more.
        """
        exchange = self._exchange
        if exchange.complete:
            return
        try:
            deadline = trio.current_time() + _END_WITHIN_S
            while await exchange.read(deadline):
                pass
        except TransportError:
            pass  # what was asked for is here
        finally:
            exchange.discard()

    def close(self) -> None:
        """Close the connection, unless the body was read to its end. Idempotent."""
        self._exchange.discard()

    def _failed(self, exc: TransportError) -> ProviderError:
        reason = without_secrets(str(exc), self.secrets) or type(exc).__name__
        failed = ConnectionFailed(f"{self.provider}: {reason}", provider=self.provider)
        return chained(failed, exc, self.secrets)

    def _timed_out(self, phase: TimeoutPhase, limit_s: float) -> ProviderTimeout:
        what = {
            "first_token": f"did not begin to answer within {limit_s:g} s",
            "between_tokens": f"fell silent for {limit_s:g} s in the middle of its answer",
            "request": f"did not finish its answer within {limit_s:g} s",
        }[phase]
        return ProviderTimeout(
            f"{self.provider} {what}", provider=self.provider, phase=phase, limit_s=limit_s
        )
