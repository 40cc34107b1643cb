"""The shapes that arrive from a Messages service, as loosely as services keep to them.

Every field may be missing or null, and what is not named here is skipped without being built. One shape holds
all events: its `type` says which fields mean something. Private to this package: `_decode` turns events into
deltas at once.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming, and what llama.cpp and aimock were seen
to send.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

__all__ = ["EVENT", "Block", "Delta", "Event", "WireUsage"]


class _OutputDetails(Struct):
    thinking_tokens: int | None = None


class WireUsage(Struct):
    """Token counts so far. `input_tokens` are those that were neither read from the cache nor written to it."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class Block(Struct):
    """A piece of content that begins, or with `stream: false` the whole of it."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class Delta(Struct):
    """What is new in a block, or at the end of the message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(Struct):
    usage: WireUsage | None = None


class Event(Struct):
    """One event of a streamed message, or the whole of one that is not streamed (`content`, `stop_reason`)."""

    type: str | None = None
    index: int | None = None
    delta: Delta | None = None
    content_block: Block | None = None
    message: _Message | None = None
    usage: WireUsage | None = None
    error: Any = None
    content: list[Block] | None = None
    stop_reason: str | None = None


EVENT: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event, strict=False)
"""Not strict: "3" and 3.0 are read as 3 where a number belongs."""
