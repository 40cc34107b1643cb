"""Where sessions are kept: the store's Protocol, what it holds, and the store in memory."""

from ._in_memory import InMemoryStore
from ._lease import Lease, Leased, SessionFenced, SessionGone, open_lease
from ._record import Compaction, Position, SessionRecord, session_metadata
from ._snapshot import SessionInfo, SessionSnapshot, snapshot_of
from ._store import SessionExists, SessionStore, read_soon
from ._transcript import messages_from_transcript
from ._unsaved import Pending, Unsaved

__all__ = [
    "Compaction",
    "InMemoryStore",
    "Lease",
    "Leased",
    "Pending",
    "Position",
    "SessionExists",
    "SessionFenced",
    "SessionGone",
    "SessionInfo",
    "SessionRecord",
    "SessionSnapshot",
    "SessionStore",
    "Unsaved",
    "messages_from_transcript",
    "open_lease",
    "read_soon",
    "session_metadata",
    "snapshot_of",
]
