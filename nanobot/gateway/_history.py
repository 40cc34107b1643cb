"""A chat's stored messages, as far as the frames of a turn under way do not tell them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final

__all__ = [
    "file_name",
    "latest_messages",
    "latest_turns",
    "text_of",
    "this_turn",
    "without_turn",
]

_MAX_CHARS: Final = 2_000_000
"""How much text of a history is sent at most: about what a page can show before it becomes slow."""

_KEPT: Final = (
    "role",
    "content",
    "tool_calls",
    "tool_call_id",
    "name",
    "timestamp",
    "reasoning_content",
    "outcome",
)


_DIGEST: Final = re.compile(r"[0-9a-f]{16}-")


def text_of(content: object) -> str:
    """What a message says, without its images and files."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(text for text in parts if isinstance(text, str))


def file_name(path: str) -> str:
    """What a client called the file that is kept at this path."""
    return _DIGEST.sub("", PurePath(path).name, count=1)


def without_turn(messages: Sequence[dict[str, Any]], said: str) -> Sequence[dict[str, Any]]:
    """The messages before the turn that answers `said`: it is journalled while it runs, and its frames say it again.

    Its message is the last one of a user. If that has another text, nothing of the turn is stored yet.
    """
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "user":
            return messages[:index] if text_of(messages[index].get("content")) == said else messages
    return messages


def this_turn(messages: Sequence[dict[str, Any]], said: str) -> list[dict[str, Any]]:
    """The messages of the last turn, with what the user said in place of what the model was shown of it."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].get("role") == "user":
            return [{"role": "user", "content": said}, *messages[index + 1 :]]
    return []


def latest_turns(messages: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The last messages, at most `limit`, beginning with one of a user."""
    for index in range(max(0, len(messages) - limit), len(messages)):
        if messages[index].get("role") == "user":
            return [*messages[index:]]
    return []


def latest_messages(messages: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The last messages, at most `limit`, beginning with one of a user if there is one among them, and only what a client
    shows of each: of files, the names.
    """
    kept: list[dict[str, Any]] = []
    chars = 0
    for message in reversed(messages[-limit:] if limit else ()):
        shown = {name: message[name] for name in _KEPT if message.get(name) is not None}
        if media := message.get("media"):
            shown["content"] = text_of(message.get("content"))
            shown["media"] = [file_name(path) for path in media]
        chars += len(str(shown.get("content", "")))
        if kept and chars > _MAX_CHARS:
            break
        kept.append(shown)
    kept.reverse()
    if len(kept) < len(messages):
        first = next((index for index, one in enumerate(kept) if one.get("role") == "user"), 0)
        return kept[first:]
    return kept
