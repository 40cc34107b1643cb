"""What the model is told with each turn: when it is, and through which channel it is talking to whom."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

__all__ = ["CHANNEL_HINTS", "turn_note"]

CHANNEL_HINTS: Final[dict[str, str]] = {
    "api": "an HTTP client; no assumption about how it shows text",
    "cli": "a terminal: plain text, little Markdown, no tables",
    "discord": "Discord Markdown, no tables, at most 2000 characters",
    "email": "an email: plain text, complete sentences",
    "gateway": "a web page that renders Markdown",
    "slack": "Slack markup: *bold*, _italic_, no headings, no tables",
    "sms": "a text message: plain text, short",
    "telegram": "Telegram: short paragraphs, simple Markdown, no tables",
    "voice": "read aloud: short sentences, no markup, no lists",
    "websocket": "a web page that renders Markdown",
    "whatsapp": "WhatsApp: *bold*, _italic_, no headings, no tables",
}
"""How an answer should look in each known channel; in any other, the model decides."""

# Independent of the locale that some other part of the program may have set.
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# Long enough for any channel's ids; what is longer is somebody trying something.
_LABEL_CHARS: Final = 120


def turn_note(
    *,
    now: datetime,
    channel: str = "cli",
    chat_id: str = "direct",
    sender_id: str = "user",
    compact: bool = False,
) -> str:
    """Write the note that stands after the user's words; it names itself, so that the two are not mixed up.

    Args:
      now: The current time in the zone that the user lives in; naive means this machine's zone. Shown to the minute.
      channel: Logical channel; a known one brings its format hint.
      chat_id: Logical chat.
      sender_id: Who is speaking. Labels are shown on one line each, so that none can pass for another.
      compact: One line in plain words, which a tiny model copies right, and only what is not the default.
    """
    moment = _moment(now if now.tzinfo is not None else now.astimezone())
    channel, chat_id, sender_id = _label(channel), _label(chat_id), _label(sender_id)
    if compact:
        labels = (
            (channel, "cli", "channel"),
            (chat_id, "direct", "chat"),
            (sender_id, "user", "sender"),
        )
        told = [f" The {title} is {label}." for label, default, title in labels if label != default]
        return f"It is {moment}.{''.join(told)}"
    hint = CHANNEL_HINTS.get(channel, "")
    return "\n".join(
        (
            "[turn note, from nanobot]",
            f"now: {moment}",
            f"channel: {channel} ({hint})" if hint else f"channel: {channel}",
            f"chat: {chat_id}",
            f"sender: {sender_id}",
        )
    )


def _moment(now: datetime) -> str:
    offset = _offset(now.utcoffset() or timedelta())
    zone = getattr(now.tzinfo, "key", None) or now.tzname() or ""
    place = offset if zone in ("", "UTC", offset) else f"{zone}, {offset}"
    return f"{_WEEKDAYS[now.weekday()]} {now:%Y-%m-%d %H:%M} ({place})"


def _offset(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    if not minutes:
        return "UTC"
    hours, minutes_left = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours:02}:{minutes_left:02}"


@lru_cache(maxsize=1_000)
def _label(label: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in label[:1000]).split())
    return line if len(line) <= _LABEL_CHARS else line[: _LABEL_CHARS - 1] + "…"
