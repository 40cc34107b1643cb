"""Where a turn writes down what was said, as it becomes final."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from nanobot.messages import Message

from ._open_turn import OpenTurn

__all__ = ["NO_JOURNAL", "Journal"]


class Journal(Protocol):
    """Keeps a turn's messages. All that was recorded, in order, is at any time a history that providers accept.

    Attributes:
      is_ahead: Whether what is to be recorded next is stored already, so that `record` only takes note, and no time.
    """

    @property
    def is_ahead(self) -> bool: ...

    async def record(
        self, messages: Sequence[Message], open_turn: OpenTurn | None = None, *, last: bool = False
    ) -> None:
        """Append messages, and keep what is still open of the turn after them: all or nothing, durable on return.

        Args:
          messages: What was said.
          open_turn: Takes the place of the one before, for whoever has to go on with the turn; None is nothing.
          last: Whether this is the last time that the turn calls.

        Cancelled, it has written nothing; if it is too late for that, it returns as if it had not been cancelled. A turn
        that is cancelled meanwhile calls again, shielded. Each call has a deadline (`Limits.store_s`, `Limits.settle_s`); one
        that missed it is the last.

        Raises:
          StoreError: They could not be written. The turn goes on without a journal, and its result says so.
        """
        ...


class _NoJournal:
    is_ahead = False

    async def record(
        self, messages: Sequence[Message], open_turn: OpenTurn | None = None, *, last: bool = False
    ) -> None:
        return


NO_JOURNAL: Final[Journal] = _NoJournal()
"""For ephemeral runs."""
