"""The SDK: what programs hold in their hands."""

from ._event_stream import EventStream
from ._jobs import Job, JobOutcome, Progress
from ._memory_client import MemoryClient
from ._nanobot import Nanobot
from ._run_many import RunMany, SyncRunMany
from ._run_stream import EventReader, RunStream
from ._runtime_client import RuntimeClient
from ._sessions_client import SessionsClient
from ._sync_stream import SyncEventStream

__all__ = [
    "EventReader",
    "EventStream",
    "Job",
    "JobOutcome",
    "MemoryClient",
    "Nanobot",
    "Progress",
    "RunMany",
    "RunStream",
    "RuntimeClient",
    "SessionsClient",
    "SyncEventStream",
    "SyncRunMany",
]
