"""What of `memory/history.jsonl` a session is shown without looking there: the latest entries that concern it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nanobot.memory import CLEARED, SUMMARY, HistoryEntry

from ._tokens import estimate_text

__all__ = ["recent_history", "recent_history_tokens"]

_HEADING: Final = "[notes, from nanobot: the latest of memory/history.jsonl]"

_MOST_ENTRIES: Final = 50
_MOST_TOKENS: Final = 4_000
_SHARE_OF_WINDOW: Final = 16
"""Every request carries these notes, and older ones can be searched: they take a sixteenth of the window at most."""


def recent_history_tokens(context_window: int) -> int:
    """What recent history may take of a window."""
    return min(_MOST_TOKENS, context_window // _SHARE_OF_WINDOW)


def recent_history(
    entries: Iterable[HistoryEntry],
    session_key: str,
    *,
    known: str = "",
    limit_tokens: int,
) -> str:
    """Write down the latest entries of the session and of no session, the oldest first; "" if there are none.

    Not the notes of compactions: what they say of the session is in its summary, unless the session was cleared or deleted
    since, and then it is not to begin with what was said before. Entries of an older version do not say whether they are such
    notes: they are shown until the session is cleared or deleted.

    Args:
      entries: Oldest first.
      session_key: Entries of other sessions are not shown.
      known: The session's summary: what stands in it is not shown twice.
      limit_tokens: What it may take; an entry that does not fit ends the choice.
    """
    lines: list[str] = []
    left = limit_tokens - estimate_text(_HEADING)
    cleared = False
    for entry in reversed([*entries]):
        own = entry.session_key == session_key
        cleared = cleared or (own and entry.kind == CLEARED)
        if not own and entry.session_key is not None:
            continue
        if entry.kind in (SUMMARY, CLEARED) or (own and cleared and entry.kind is None):
            continue
        content = entry.content.strip()
        if not content or content in known:
            continue
        line = f"{entry.timestamp}: {content}"
        left -= estimate_text(line) + 1
        if left < 0 or len(lines) == _MOST_ENTRIES:
            break
        lines.append(line)
    return "\n".join([_HEADING, *reversed(lines)]) if lines else ""
