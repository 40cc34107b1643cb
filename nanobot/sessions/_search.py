"""Finding what was said, across sessions: what a store that can be searched offers."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct, structs

__all__ = ["SearchHit", "SessionSearch"]


class SearchHit(Struct, frozen=True):
    """One message that has the words.

    Attributes:
      key: The session.
      sequence: Number of the message in its session; the first is 1.
      role: Whose message it is: user, assistant, tool or system.
      excerpt: The text around the first of the words, on one line.
      timestamp: As the message has it: free text, may be "".
    """

    key: str
    sequence: int
    role: str
    excerpt: str
    timestamp: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the hit as a dict that `json.dumps` takes."""
        return structs.asdict(self)


class SessionSearch(Protocol):
    """A store whose messages can be searched. A plain function as those of `SessionStore`: for any thread, may block."""

    def search(self, text: str, limit: int = 20) -> tuple[SearchHit, ...]:
        """Return the messages that have all the words of `text`, the best first, at most `limit`.

        Case does not count. The last word may be unfinished. What has been written is found, whoever wrote it; nothing is
        found in what was cleared or deleted. Text without a word finds nothing.

        Raises:
          UsageError: The limit is negative.
          StoreError: The store cannot be read.
        """
        ...
