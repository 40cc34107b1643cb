"""nanobot runs an agent around a model: tools, sessions, memory, streamed events, structured results.

Importing this package costs next to nothing; each name brings what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __logo__, __version__

if TYPE_CHECKING:
    from .agent import (
        STREAM_EVENT_REASONING_COMPLETED,
        STREAM_EVENT_REASONING_DELTA,
        STREAM_EVENT_RUN_COMPLETED,
        STREAM_EVENT_RUN_FAILED,
        STREAM_EVENT_RUN_STARTED,
        STREAM_EVENT_TEXT_COMPLETED,
        STREAM_EVENT_TEXT_DELTA,
        STREAM_EVENT_TOOL_COMPLETED,
        STREAM_EVENT_TOOL_FAILED,
        STREAM_EVENT_TOOL_STARTED,
        STREAM_EVENT_TYPES,
        Budget,
        RunResult,
        StreamEvent,
        StreamEventType,
    )
    from .sdk import Job, JobOutcome, Nanobot, PendingApproval, RunStream
    from .sessions import SessionInfo, SessionSnapshot
    from .tools import ApprovalRequest, Approved, Denied, Park, RunContext, tool

__all__ = [
    "STREAM_EVENT_REASONING_COMPLETED",
    "STREAM_EVENT_REASONING_DELTA",
    "STREAM_EVENT_RUN_COMPLETED",
    "STREAM_EVENT_RUN_FAILED",
    "STREAM_EVENT_RUN_STARTED",
    "STREAM_EVENT_TEXT_COMPLETED",
    "STREAM_EVENT_TEXT_DELTA",
    "STREAM_EVENT_TOOL_COMPLETED",
    "STREAM_EVENT_TOOL_FAILED",
    "STREAM_EVENT_TOOL_STARTED",
    "STREAM_EVENT_TYPES",
    "ApprovalRequest",
    "Approved",
    "Budget",
    "Denied",
    "Job",
    "JobOutcome",
    "Nanobot",
    "Park",
    "PendingApproval",
    "RunContext",
    "RunResult",
    "RunStream",
    "SessionInfo",
    "SessionSnapshot",
    "StreamEvent",
    "StreamEventType",
    "__logo__",
    "__version__",
    "tool",
]

_SOURCES = {
    "Job": "nanobot.sdk",
    "JobOutcome": "nanobot.sdk",
    "Nanobot": "nanobot.sdk",
    "Park": "nanobot.tools",
    "PendingApproval": "nanobot.sdk",
    "RunStream": "nanobot.sdk",
    "SessionInfo": "nanobot.sessions",
    "SessionSnapshot": "nanobot.sessions",
    "ApprovalRequest": "nanobot.tools",
    "Approved": "nanobot.tools",
    "Denied": "nanobot.tools",
    "RunContext": "nanobot.tools",
    "tool": "nanobot.tools",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_SOURCES.get(name, "nanobot.agent")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
