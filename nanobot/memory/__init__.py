"""What outlives the window: when a session is compacted, what of it, and the notes that stand in its place."""

from ._compaction import Room, overflows, room_for_history, suffix_start
from ._plain_text import in_pieces, plain_text
from ._summarize import Summarizer, SummaryFailed

__all__ = [
    "Room",
    "Summarizer",
    "SummaryFailed",
    "in_pieces",
    "overflows",
    "plain_text",
    "room_for_history",
    "suffix_start",
]
