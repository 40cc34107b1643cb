"""Reading one streamed answer of our own bot, as the subjects that stream do."""

from __future__ import annotations

from nanobot import STREAM_EVENT_TEXT_DELTA, Nanobot

__all__ = ["read_deltas"]


async def read_deltas(bot: Nanobot, key: str, text: str) -> None:
    """Have one turn and take its text as it comes."""
    deltas = 0
    async for event in bot.stream(text, session_key=key):
        deltas += event.type == STREAM_EVENT_TEXT_DELTA
    assert deltas, "an answer without text"
