"""From the events of a Messages stream to our deltas, without any I/O.

What services are forgiven here: missing and null fields, events without a name, deltas without an index, a tool's
input sent whole when its block begins, text in the event that begins a block, blocks that are never ended, token
counts at the beginning, at the end or at both, unknown events, blocks and deltas, errors inside an answer with
status 200, characters cut in half, and a whole message where a stream was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from nanobot.messages import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
    without_surrogates,
)

from .._event_reader import EventReader
from .._reasoning_items import Place, stored_item
from .._request_body import json_bytes
from . import _wire

__all__ = ["MessageDecoder"]

_UNDERSTOOD: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "message",  # a whole one; also what an event without a name is called
        "error",
    }
)
"""Anything else is skipped undecoded: `ping`, and what vendors add without notice."""

_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    # The model is not done, and goes on when asked to.
    "pause_turn": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class _OpenBlock(Struct):
    """A block of which more may come. `call` is the index of a tool call."""

    type: str
    text: list[str]
    signature: str = ""
    call: int = 0
    input: Any = None


class MessageDecoder:
    """Turns the events of one message into deltas, in order.

    `Finished` is not among them: token counts and the end of the stream come with or after the stop reason, so
    `end` gives it last.

    Args:
      provider: Name of the provider, for errors and for its reasoning items.
      secrets: Texts that must not appear in errors.

    Attributes:
      noun: What the service should have sent.
      events: Events decoded so far.
      done: Whether the message was ended.
      finish_reason: Why the model ended it, once the service told.
    """

    def __init__(self, *, provider: str, secrets: Sequence[str] = ()) -> None:
        self._provider = provider
        self._reader = EventReader(
            _wire.Event,
            _wire.EVENT,
            understood=_UNDERSTOOD,
            noun="a message",
            provider=provider,
            secrets=secrets,
        )
        self._blocks: dict[int, _OpenBlock] = {}
        self._newest = 0  # index of the block that was begun last
        self._place = Place()
        self._usage = _wire.WireUsage()
        self.noun = "a message"
        self.events = 0
        self.done = False
        self.finish_reason: FinishReason | None = None

    def feed(self, payload: bytes, event: str, deltas: list[Delta]) -> None:
        """Decode one event and append what it brings to `deltas`.

        Raises:
          MalformedStream: The payload is not JSON of the expected shape.
          ProviderError: The payload reports an error; the class says of what kind.
        """
        if event not in _UNDERSTOOD or self.done or not payload:
            return
        if event == "error":
            raise self._reader.reported(payload)
        if payload.startswith(b"[DONE]"):  # from services that speak several formats
            self.done = self.finish_reason is not None
            return
        decoded = self._reader.read(payload)
        if decoded is None or decoded.type is None:
            return
        self.events += 1
        match decoded.type:
            case "content_block_delta":
                if decoded.delta is not None:
                    self._more(self._index(decoded), decoded.delta, deltas)
            case "content_block_start":
                if decoded.content_block is not None:
                    self._begin(self._index(decoded, begins=True), decoded.content_block, deltas)
            case "content_block_stop":
                self._finish_block(self._index(decoded), deltas)
            case "message_start":
                if decoded.message is not None and decoded.message.usage is not None:
                    self._count(decoded.message.usage, deltas)
            case "message_delta":
                if decoded.usage is not None:
                    self._count(decoded.usage, deltas)
                if decoded.delta is not None and decoded.delta.stop_reason:
                    self._stopped(decoded.delta.stop_reason)
            case "message_stop":
                self.done = True
            case "message":
                self._whole(decoded, deltas)

    def end(self) -> list[Delta]:
        """Take the end of the message and return what was held back, `Finished` last.

        Only after a stop reason or the end of the message; one that was ended without a reason gets "unknown".
        """
        deltas: list[Delta] = []
        for index in tuple(self._blocks):
            self._finish_block(index, deltas)
        if self._reader.halves is not None and (left := self._reader.halves.end()):
            deltas.append(TextDelta(left))
        deltas.append(Finished(self.finish_reason or "unknown"))
        return deltas

    def _index(self, event: _wire.Event, *, begins: bool = False) -> int:
        """Return the block an event is about: the one begun last, unless it says."""
        if event.index is not None:
            return event.index
        return self._newest + 1 if begins else self._newest

    def _begin(self, index: int, block: _wire.Block, deltas: list[Delta]) -> None:
        if index in self._blocks:  # whose end was not told
            self._finish_block(index, deltas)
        self._newest = index
        kind = block.type or ""
        match kind:
            case "text":
                if block.text:
                    self._text(block.text, deltas)
            case "thinking":
                opened = self._blocks[index] = _OpenBlock(
                    kind, [], without_surrogates(block.signature or "")
                )
                if block.thinking:
                    self._thinking(opened, block.thinking, deltas)
            case "redacted_thinking":
                item = stored_item(
                    kind,
                    "",
                    "",
                    provider=self._provider,
                    place=self._place,
                    data=without_surrogates(block.data or ""),
                )
                deltas.append(ThinkingDelta(item))
            case "tool_use":
                call = self._place.calls
                self._place.calls += 1
                self._blocks[index] = _OpenBlock(kind, [], call=call, input=block.input)
                deltas.append(
                    ToolCallDelta(
                        call,
                        without_surrogates(block.id or ""),
                        without_surrogates(block.name or ""),
                    )
                )

    def _more(self, index: int, delta: _wire.Delta, deltas: list[Delta]) -> None:
        if delta.text:  # nearly always
            self._text(delta.text, deltas)
            return
        block = self._blocks.get(index)
        if block is None:  # of a kind that we do not know
            return
        if delta.partial_json and block.type == "tool_use":
            block.input = None
            arguments = without_surrogates(delta.partial_json)
            deltas.append(ToolCallDelta(block.call, arguments=arguments))
        elif delta.thinking and block.type == "thinking":
            self._thinking(block, delta.thinking, deltas)
        elif delta.signature and block.type == "thinking":
            block.signature = without_surrogates(delta.signature)

    def _finish_block(self, index: int, deltas: list[Delta]) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if block.type == "tool_use":
            if block.input:  # came whole, and nothing after it
                arguments = json_bytes(block.input).decode()
                deltas.append(ToolCallDelta(block.call, arguments=arguments))
        elif block.text or block.signature:
            text = "".join(block.text)
            item = stored_item(
                block.type, text, block.signature, provider=self._provider, place=self._place
            )
            deltas.append(ThinkingDelta(item))

    def _text(self, text: str, deltas: list[Delta]) -> None:
        if self._reader.halves is not None:
            text = self._reader.halves.join(text)
            if not text:
                return
        self._place.text += len(text)
        deltas.append(TextDelta(text))

    def _thinking(self, block: _OpenBlock, text: str, deltas: list[Delta]) -> None:
        if self._reader.halves is not None:
            text = without_surrogates(text)
        block.text.append(text)
        deltas.append(ReasoningDelta(text))

    def _whole(self, message: _wire.Event, deltas: list[Delta]) -> None:
        for index, block in enumerate(message.content or ()):
            self._begin(index, block, deltas)
            self._finish_block(index, deltas)
        if message.usage is not None:
            self._count(message.usage, deltas)
        if message.stop_reason:
            self._stopped(message.stop_reason)

    def _stopped(self, reason: str) -> None:
        self.finish_reason = _FINISH_REASONS.get(reason.lower(), "unknown")

    def _count(self, usage: _wire.WireUsage, deltas: list[Delta]) -> None:
        """Take counts in; what an event does not say keeps its last value."""
        counts = self._usage
        for name in _wire.WireUsage.__struct_fields__:
            if (count := getattr(usage, name)) is not None:
                setattr(counts, name, count)
        cached, written = counts.cache_read_input_tokens, counts.cache_creation_input_tokens
        prompt = (counts.input_tokens or 0) + (cached or 0) + (written or 0)
        completion = counts.output_tokens or 0
        details = counts.output_tokens_details
        deltas.append(
            UsageDelta(
                Usage(
                    prompt,
                    completion,
                    prompt + completion,
                    cached,
                    None if details is None else details.thinking_tokens,
                    written,
                )
            )
        )
