"""What becomes of an answer on its way through a session, whatever the wire format."""

from __future__ import annotations

from nanobot.messages import (
    Assembler,
    AssistantMessage,
    Delta,
    message_from_openai,
    to_transcript,
)
from nanobot.providers._answer_stream import EventDecoder
from nanobot.providers._sse import EventStreamDecoder

__all__ = ["kept"]


def kept(decoder: EventDecoder, stream: bytes, cut_at: int) -> AssistantMessage:
    """What history keeps of an answer that arrives in two pieces, after it went through a session file."""
    events, assembler = EventStreamDecoder(), Assembler()
    for piece in (stream[:cut_at], stream[cut_at:]):
        for event in events.feed(piece):
            deltas: list[Delta] = []
            decoder.feed(event.data, event.event, deltas)
            assembler.feed(deltas)
    assembler.feed(decoder.end())
    message = message_from_openai(to_transcript(assembler.message()))
    assert isinstance(message, AssistantMessage)
    return message
