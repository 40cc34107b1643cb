"""A tool call, folded into one line. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

__all__ = [
    "clipped",
    "elapsed",
    "one_line",
    "summary_of_call",
    "summary_of_result",
    "without_controls",
]

# What says most about a call, in this order, whatever the tool; other arguments follow as they come.
_TELLING: Final = ("command", "path", "pattern", "query", "url", "task", "content")


def summary_of_call(name: str, arguments: Mapping[str, Any] | None, *, width: int) -> str:
    """Say what a tool was called with, such as `read_file notes.txt`, in at most `width` characters."""
    given = dict(arguments or {})
    telling = next((key for key in _TELLING if isinstance(given.get(key), str)), None)
    words = [name]
    if telling is not None:
        words.append(one_line(given.pop(telling)))
    words += [f"{key}={one_line(_shown(value))}" for key, value in given.items()]
    return clipped(" ".join(words), width)


def summary_of_result(result: object, *, width: int) -> str:
    """Say what a tool gave back: its first line, and how many there are."""
    text = result if isinstance(result, str) else "" if result is None else _shown(result)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "nothing"
    more = f" (+{len(lines) - 1} lines)" if len(lines) > 1 else ""
    return clipped(one_line(lines[0]), max(8, width - len(more))) + more


def elapsed(seconds: float) -> str:
    """A duration as people say it: `3 ms`, `0.4 s`, `12 s`, `3 min 05 s`."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def one_line(text: str) -> str:
    """The text without line breaks and without characters that could command a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def clipped(text: str, width: int) -> str:
    """At most so many characters; what was cut off shows."""
    return text if len(text) <= width else text[: max(1, width - 1)].rstrip() + "…"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def without_controls(text: str) -> str:
    """The text without characters that could command a terminal; line breaks and tabs stay.

    What a model says may come from a page that it read, and an escape sequence in it could rewrite the screen.
    """
    if text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
