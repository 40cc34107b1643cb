"""Where sessions are kept: the store's Protocol, what it holds, and the store in memory."""

from ._configured import DATABASE_NAME, configured_store
from ._deferred import DeferredStore
from ._in_memory import InMemoryStore
from ._lease import Lease, Leased, SessionFenced, SessionGone, open_lease, release_lease
from ._record import Compaction, Position, SessionRecord, session_metadata
from ._search import SearchHit, SessionSearch
from ._snapshot import SessionInfo, SessionSnapshot, snapshot_of
from ._store import Durability, SearchableStore, SessionExists, SessionStore, read_soon
from ._transcript import messages_from_transcript
from ._unsaved import Pending, Unsaved

__all__ = [
    "DATABASE_NAME",
    "Compaction",
    "DeferredStore",
    "Durability",
    "InMemoryStore",
    "Lease",
    "Leased",
    "Pending",
    "Position",
    "SearchHit",
    "SearchableStore",
    "SessionExists",
    "SessionFenced",
    "SessionGone",
    "SessionInfo",
    "SessionRecord",
    "SessionSearch",
    "SessionSnapshot",
    "SessionStore",
    "Unsaved",
    "configured_store",
    "messages_from_transcript",
    "open_lease",
    "read_soon",
    "release_lease",
    "session_metadata",
    "snapshot_of",
]
