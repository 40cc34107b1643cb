"""The SDK: what programs hold in their hands."""

from ._approvals_client import ApprovalsClient, PendingApproval
from ._event_stream import EventStream
from ._jobs import Job, JobOutcome, Progress
from ._memory_client import MemoryClient
from ._nanobot import Nanobot
from ._resume_options import ResumeOptions
from ._run_many import RunMany, SyncRunMany
from ._run_stream import EventReader, RunStream
from ._runtime_client import RuntimeClient
from ._session_events import SessionEvent, SessionEvents
from ._sessions_client import SessionsClient
from ._sync_stream import SyncEventStream

__all__ = [
    "ApprovalsClient",
    "EventReader",
    "EventStream",
    "Job",
    "JobOutcome",
    "MemoryClient",
    "Nanobot",
    "PendingApproval",
    "Progress",
    "ResumeOptions",
    "RunMany",
    "RunStream",
    "RuntimeClient",
    "SessionEvent",
    "SessionEvents",
    "SessionsClient",
    "SyncEventStream",
    "SyncRunMany",
]
