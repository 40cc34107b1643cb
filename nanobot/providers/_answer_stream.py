"""One open answer of a service: network reads in, batches of deltas out, whatever the wire format."""

from __future__ import annotations

from typing import Final, Protocol

from nanobot._frames import without_frames
from nanobot.errors import ConnectionFailed, MalformedStream, ProviderError, ProviderTimeout
from nanobot.messages import Delta, FinishReason

from ._answer_body import AnswerBody
from ._http_errors import body_excerpt
from ._sse import MAX_EVENT_BYTES, EventStreamDecoder

__all__ = ["AnswerStream", "EventDecoder"]

_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""How much one answer may bring before we stop reading, in bytes. The longest answers that models give today are
128,000 tokens; each in an event of its own, with the usual 250 bytes around it, they are half of this."""

_AFTER_FINISH_S: Final = 5.0
"""How long the events that end a stream may follow the finish reason. The answer is complete without them."""

_EXCERPT_BYTES: Final = 2048
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"


class EventDecoder(Protocol):
    """What a wire format makes of the events of one answer, without I/O.

    Attributes:
      noun: What the service should have sent, for errors: "a chat completion".
      events: Events decoded so far.
      done: Whether the answer is over: nothing after this counts.
      finish_reason: Why the model ended its answer, once the service told.
    """

    noun: str
    events: int
    done: bool
    finish_reason: FinishReason | None

    def feed(self, payload: bytes, event: str, deltas: list[Delta]) -> None:
        """Decode one event, or a whole answer under the name "message", and append what it brings to `deltas`.

        Raises:
          ProviderError: The payload is none of this format's, or reports an error.
        """
        ...

    def end(self) -> list[Delta]:
        """Take the end of the answer and return what was held back, `Finished` last."""
        ...


class AnswerStream:
    """The deltas of one answer, those of one network read at a time; `Finished` comes last.

    Accepts an event stream, and a whole answer as JSON from services that do not stream; what the body begins
    with decides, since services mislabel both.
    """

    def __init__(self, body: AnswerBody, decoder: EventDecoder) -> None:
        self._body = body
        self._provider = body.provider
        self._events = EventStreamDecoder()
        self._decoder = decoder
        self._beginning: bytearray | None = bytearray()  # until it is clear what is sent
        self._whole: bytearray | None = None  # of an answer that is not streamed
        self._first_bytes = b""  # for an excerpt
        self._failure: ProviderError | None = None
        self._finished = False

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> list[Delta]:
        if self._finished:
            await self._body.finish()
            raise StopAsyncIteration
        deltas: list[Delta] = []
        while not deltas:
            if self._failure is not None:
                self._body.close()
                raise self._failure
            try:
                await self._advance(deltas)
            except ProviderError as exc:
                # Raised after what was said before it; what was read may quote our key.
                self._failure = without_frames(exc)
        return deltas

    async def aclose(self) -> None:
        """Close the connection, unless the answer was read to its end. Idempotent; does not wait for the service."""
        self._body.close()

    async def _advance(self, deltas: list[Delta]) -> None:
        finished = self._decoder.finish_reason is not None
        try:
            received = await self._body.read(within_s=_AFTER_FINISH_S if finished else None)
        except (ConnectionFailed, ProviderTimeout):
            if not finished:
                raise
            received = b""  # the model had finished; nothing is missing
        if received:
            self._take(received, deltas)
        else:
            self._take_end(deltas)
        if self._decoder.done or not received:
            deltas += self._decoder.end()
            self._finished = True

    def _take(self, received: bytes, deltas: list[Delta]) -> None:
        if self._body.bytes_read > _MAX_ANSWER_BYTES:
            raise self._malformed(f"sent more than {_MAX_ANSWER_BYTES >> 20} MiB")
        if self._beginning is not None:
            self._beginning += received
            received = self._recognized(self._beginning)
        if self._whole is not None:
            self._whole += received
            if len(self._whole) > MAX_EVENT_BYTES:
                raise self._malformed(
                    f"sent a whole answer of more than {MAX_EVENT_BYTES >> 20} MiB"
                )
            return
        for event in self._events.feed(received):
            self._decoder.feed(event.data, event.event, deltas)
        if self._events.overflowed:
            raise self._malformed(f"sent a single event of more than {MAX_EVENT_BYTES >> 20} MiB")

    def _recognized(self, beginning: bytearray) -> bytes:
        """Decide by the first visible byte what the body is, and return what can be decoded by now."""
        visible = beginning.lstrip(_BLANK)
        if not visible:
            return b""
        self._first_bytes = bytes(visible[:_EXCERPT_BYTES])
        if visible.startswith(b"<"):
            raise self._malformed("answered with a web page; check the base URL and the path in it")
        self._beginning = None
        if visible.startswith(b"{") or (
            visible.startswith(b"[") and self._body.content_type == "application/json"
        ):
            self._whole = bytearray()
        return bytes(beginning)

    def _take_end(self, deltas: list[Delta]) -> None:
        decoder = self._decoder
        if self._whole is not None:
            decoder.feed(bytes(self._whole).lstrip(_BLANK), "message", deltas)
            if deltas or decoder.finish_reason is not None:
                return
            raise self._malformed(f"answered with JSON that is not {decoder.noun}")
        cut = self._events.end()
        if cut is not None and not decoder.done:
            try:
                decoder.feed(cut.data, cut.event, deltas)  # only the last blank line may be missing
            except MalformedStream:
                if decoder.finish_reason is None:
                    raise self._malformed(
                        f"hung up in the middle of an event, after {decoder.events} whole ones"
                    ) from None
        if decoder.finish_reason is not None or decoder.done:
            return
        if decoder.events:
            raise self._malformed(
                f"ended its answer after {decoder.events} events without saying why"
            )
        raise self._malformed("sent an answer without a single event")

    def _malformed(self, what: str) -> MalformedStream:
        excerpt = body_excerpt(self._first_bytes, self._body.secrets)
        shown = f": {excerpt[:120]!r}" if excerpt and not self._decoder.events else ""
        return MalformedStream(
            f"{self._provider} {what}{shown}", provider=self._provider, body_excerpt=excerpt
        )
