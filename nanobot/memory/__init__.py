"""What outlives window and session: when a session is compacted and what of it, the notes that stand in its place, and
the workspace's files of facts and of the past.
"""

from ._compaction import Room, overflows, room_for_history, suffix_start
from ._history_log import CLEARED, RECENT_BYTES, SUMMARY, HistoryEntry, HistoryLog, entries_in
from ._notes import Notes
from ._plain_text import in_pieces, plain_text
from ._summarize import Summarizer, Summary, SummaryFailed

__all__ = [
    "CLEARED",
    "RECENT_BYTES",
    "SUMMARY",
    "HistoryEntry",
    "HistoryLog",
    "Notes",
    "Room",
    "Summarizer",
    "Summary",
    "SummaryFailed",
    "entries_in",
    "in_pieces",
    "overflows",
    "plain_text",
    "room_for_history",
    "suffix_start",
]
