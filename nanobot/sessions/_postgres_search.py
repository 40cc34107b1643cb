"""Finding messages by their words: an index names those that have them all, and each is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ._postgres_rows import WORD_CHARS
from ._rows import key_from_row, message_from_body
from ._search import SearchHit
from ._search_text import folded, has_phrases, hit_of, phrases_of, text_of

__all__ = ["search"]

_FIND: Final = """
    SELECT s.key, m.number, m.body FROM nanobot_message m JOIN nanobot_session s ON s.id = m.session
    WHERE m.words @@ %b::text::tsquery ORDER BY s.version DESC, m.number DESC LIMIT %b OFFSET %b
"""

# Words that stand elsewhere in a message make no phrase, so more are fetched than are wanted.
_FETCHED_MORE: Final = 50


def search(
    query: Callable[..., list[tuple[Any, ...]]], text: str, limit: int
) -> tuple[SearchHit, ...]:
    """Find messages, those of the session that was written last first.

    Args:
      query: Runs a statement with its values.
      text: Words.
      limit: How many at most.
    """
    words, phrases = text.split(), phrases_of(text)
    if not phrases or not limit:
        return ()
    hits: list[SearchHit] = []
    offset, fetched = 0, limit + _FETCHED_MORE
    while True:
        rows = query(_FIND, _all_of(phrases), fetched, offset)
        for key, number, body in rows:
            message = message_from_body(body)
            if has_phrases(folded(text_of(message)), phrases):
                hits.append(hit_of(key_from_row(key), number, message, words))
                if len(hits) == limit:
                    return tuple(hits)
        if len(rows) < fetched:
            return tuple(hits)
        offset, fetched = offset + fetched, 2 * fetched


def _all_of(phrases: list[str]) -> str:
    """The words that must be there, the last one maybe unfinished. They are letters and digits, so none is an operator."""
    words = [word[:WORD_CHARS] for phrase in phrases for word in phrase.split()]
    return " & ".join([f"'{word}'" for word in words]) + ":*"
