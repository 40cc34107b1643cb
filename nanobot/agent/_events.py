"""The ten facts that a run reports while it happens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ._result import RunResult

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
    "StreamEvent",
    "StreamEventType",
]

StreamEventType: TypeAlias = Literal[
    "run.started",
    "text.delta",
    "text.completed",
    "reasoning.delta",
    "reasoning.completed",
    "tool.started",
    "tool.completed",
    "tool.failed",
    "run.completed",
    "run.failed",
]

STREAM_EVENT_RUN_STARTED: Final = "run.started"
STREAM_EVENT_TEXT_DELTA: Final = "text.delta"
STREAM_EVENT_TEXT_COMPLETED: Final = "text.completed"
STREAM_EVENT_REASONING_DELTA: Final = "reasoning.delta"
STREAM_EVENT_REASONING_COMPLETED: Final = "reasoning.completed"
STREAM_EVENT_TOOL_STARTED: Final = "tool.started"
STREAM_EVENT_TOOL_COMPLETED: Final = "tool.completed"
STREAM_EVENT_TOOL_FAILED: Final = "tool.failed"
STREAM_EVENT_RUN_COMPLETED: Final = "run.completed"
STREAM_EVENT_RUN_FAILED: Final = "run.failed"

STREAM_EVENT_TYPES: Final[tuple[StreamEventType, ...]] = (
    STREAM_EVENT_RUN_STARTED,
    STREAM_EVENT_TEXT_DELTA,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_REASONING_DELTA,
    STREAM_EVENT_REASONING_COMPLETED,
    STREAM_EVENT_TOOL_STARTED,
    STREAM_EVENT_TOOL_COMPLETED,
    STREAM_EVENT_TOOL_FAILED,
    STREAM_EVENT_RUN_COMPLETED,
    STREAM_EVENT_RUN_FAILED,
)
"""All event types there are. A version of the library may add fields to events, never types."""


@dataclass(slots=True)
class StreamEvent:
    """One fact about a run, at the moment it became true.

    Attributes:
      type: Which of `STREAM_EVENT_TYPES`.
      delta: The next piece of text or reasoning, on the two delta events; never empty there.
      content: The whole segment on `text.completed` and `reasoning.completed`, the answer (or what there is of it) on
        `run.completed` and `run.failed`.
      result: The run's result, on `run.completed`.
      name: The tool's name, on tool events.
      tool_call_id: Which call, on tool events; unique within the run's iteration.
      arguments: What the tool is run with, on tool events. `{}` if the model wrote something that is no JSON object.
      iteration: Which answer of the model this belongs to, counted from 0.
      resuming: On `text.completed`: whether the run goes on after this segment, with tool calls or with what subagents bring.
      usage: Token counts of the whole run, on `run.completed` and `run.failed`.
      error: What went wrong, on `tool.failed` and `run.failed`.
      metadata: `run.started` says for whom the run is and with which model; `text.completed` has the `provider` and the
        `model` that said it; tool events end with `result`, `outcome` and `status`; `run.failed` has `reason` (a stop
        reason) and, if an exception was behind it, `exception_type`.
    """

    type: StreamEventType
    delta: str = ""
    content: str = ""
    result: RunResult[Any] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    arguments: dict[str, Any] | None = None
    iteration: int | None = None
    resuming: bool | None = None
    usage: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
