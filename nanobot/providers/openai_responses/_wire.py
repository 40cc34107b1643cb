"""The shapes that arrive from a Responses service, as loosely as services keep to them.

Every field may be missing or null, and what is not named here is skipped without being built. One shape holds
all events: its `type` says which fields mean something. Private to this package: `_decode` turns events into
deltas at once.

Source: https://developers.openai.com/api/reference/resources/responses/streaming-events, and what llama.cpp and
aimock were seen to send.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

__all__ = ["EVENT", "Event", "Item", "Part", "Response", "WireUsage"]


class Part(Struct):
    """A piece of a message, of reasoning, or of its summary."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None


class Item(Struct):
    """One thing that a response is made of: a message, reasoning, or a function call."""

    type: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None


class _InputDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(Struct):
    reasoning_tokens: int | None = None


class WireUsage(Struct):
    """Token counts of the whole response."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(Struct):
    reason: str | None = None


class Response(Struct):
    """A response as a whole, at its end."""

    status: str | None = None
    output: list[Item] | None = None
    usage: WireUsage | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


class Event(Struct):
    """One event of a streamed response, or the whole of one that is not streamed (`object`, `output` and so on)."""

    type: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    summary_index: int | None = None
    delta: str | None = None
    arguments: str | None = None
    item: Item | None = None
    response: Response | None = None
    object: str | None = None
    status: str | None = None
    output: list[Item] | None = None
    usage: WireUsage | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


EVENT: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event, strict=False)
"""Not strict: "3" and 3.0 are read as 3 where a number belongs."""
