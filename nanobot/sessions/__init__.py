"""Where sessions are kept: the store's Protocol, what it holds, and the store in memory."""

from ._configured import DATABASE_NAME, configured_store
from ._deferred import DeferredStore
from ._in_memory import InMemoryStore
from ._lease import Lease, Leased, SessionFenced, SessionGone, open_lease, release_lease
from ._migrate import Migrated, MigrationPhase, Totals, digest_of, migrate_sessions
from ._record import Compaction, Position, SessionRecord, session_metadata
from ._restored import RestoredSession, checked_key, restored_from_snapshot
from ._search import SearchHit, SessionSearch
from ._signals import SessionSignals, SessionWatch, signals_of
from ._snapshot import SessionInfo, SessionSnapshot, snapshot_of
from ._store import (
    Durability,
    PlacedStore,
    SearchableStore,
    SessionExists,
    SessionStore,
    keep_the_same,
    read_soon,
)
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
    "Migrated",
    "MigrationPhase",
    "Pending",
    "PlacedStore",
    "Position",
    "RestoredSession",
    "SearchHit",
    "SearchableStore",
    "SessionExists",
    "SessionFenced",
    "SessionGone",
    "SessionInfo",
    "SessionRecord",
    "SessionSearch",
    "SessionSignals",
    "SessionSnapshot",
    "SessionStore",
    "SessionWatch",
    "Totals",
    "Unsaved",
    "checked_key",
    "configured_store",
    "digest_of",
    "keep_the_same",
    "messages_from_transcript",
    "migrate_sessions",
    "open_lease",
    "read_soon",
    "release_lease",
    "restored_from_snapshot",
    "session_metadata",
    "signals_of",
    "snapshot_of",
]
