"""The SDK: what programs hold in their hands."""

from ._event_stream import EventStream
from ._memory_client import MemoryClient
from ._nanobot import Nanobot
from ._run_stream import EventReader, RunStream
from ._runtime_client import RuntimeClient
from ._session_events import SessionEvent, SessionEvents
from ._sessions_client import SessionsClient
from ._sync_stream import SyncEventStream

__all__ = [
    "EventReader",
    "EventStream",
    "MemoryClient",
    "Nanobot",
    "RunStream",
    "RuntimeClient",
    "SessionEvent",
    "SessionEvents",
    "SessionsClient",
    "SyncEventStream",
]
