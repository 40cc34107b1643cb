"""How much of a session's history a model is shown, and when it has grown past that."""

from __future__ import annotations

import math

from msgspec import Struct

from nanobot.context import Calibration, history_budget
from nanobot.memory import Room, overflows, room_for_history
from nanobot.providers._select import ModelSelection

from ._history_view import HistoryView

__all__ = ["HistoryRoom"]

_GROWN = 1.1
"""How much longer a history must be than when no summary could be made of it, for another try to be worth its tokens."""


class HistoryRoom(Struct, frozen=True):
    """The room for history in a model's requests. Everything is counted in estimated tokens.

    Attributes:
      window: What the model reads and writes in all.
      budget: What a request has room for of history.
      room: What is kept of it by a compaction; None if there is no room for any.
    """

    window: int
    budget: int
    room: Room | None

    @classmethod
    def of(
        cls,
        selection: ModelSelection,
        *,
        ratio: float,
        fixed_tokens: int,
        calibration: Calibration,
    ) -> HistoryRoom:
        """The room for one model.

        Args:
          selection: The model.
          ratio: What share of the room is taken after a compaction.
          fixed_tokens: What a request takes beside history and answer, in estimated tokens.
          calibration: How the model's tokens differ from estimated ones: what it has room for is converted, not each message.
        """
        window = int(selection.context_window_tokens / calibration.ratio)
        answer = math.ceil(selection.max_tokens / calibration.ratio)
        budget = history_budget(window, answer, fixed_tokens=fixed_tokens)
        return cls(window, budget, room_for_history(budget, ratio))

    def is_outgrown(self, history: HistoryView) -> bool:
        """Whether a history is to be compacted before a turn."""
        if self.room is None or not overflows(history.tokens, self.room):
            return False
        return not history.unsummarizable or history.tokens >= _GROWN * history.unsummarizable
