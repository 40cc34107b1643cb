"""`bot.memory`: what outlives sessions."""

from __future__ import annotations

from typing import Any

from nanobot.memory import HistoryLog, Notes

__all__ = ["MemoryClient"]


class MemoryClient:
    """The memory files of a bot's workspace, which its user may read and edit, too. Made by `Nanobot`.

    Plain calls, from any thread and any event loop; several processes may use one workspace. All raise `StoreError`,
    naming the file, if it cannot be read or written.
    """

    def __init__(self, notes: Notes, history_log: HistoryLog) -> None:
        self._notes = notes
        self._history_log = history_log

    def read(self) -> str:
        """Return `memory/MEMORY.md`: lasting facts, shown to the model in every session. "" if there is none."""
        return self._notes.read()

    def write(self, text: str) -> None:
        """Replace `memory/MEMORY.md` in one step: nobody ever reads half of it, also after a crash."""
        self._notes.write(text)

    def append_history(self, text: str, session_key: str | None = None) -> int:
        """Add an entry to `memory/history.jsonl` and return its cursor, when it is on the disk.

        Cursors start at 1 and only grow, among all processes that use the workspace. Compactions add their notes here.

        Args:
          text: What happened; past 64,000 characters it is cut, and says so.
          session_key: The session that it is about.
        """
        return self._history_log.append(text, session_key)

    def read_history(self, session_key: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of `memory/history.jsonl`, oldest first.

        Each has `cursor`, `timestamp` ("YYYY-MM-DD HH:MM", in the user's zone), `content`, and `session_key` if it is
        about one. Lines that cannot be read are passed over.

        Args:
          session_key: Only those of this session; None is all entries.
        """
        return self._history_log.read(session_key)
