"""The loop: one turn of an agent, from the user's message to its answer, and the hooks that look on."""

from ._attempt import Attempt, Outcome
from ._budget import Allowance, Budget, BudgetSpent, Purse
from ._emit import NOBODY, ConsumerStalled, Emit
from ._events import (
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
    StreamEvent,
    StreamEventType,
)
from ._hook import AgentHook, HookOutcome, HookText
from ._hook_context import AgentHookContext, HookToolCall, ModelAnswer
from ._inbox import Inbox
from ._journal import NO_JOURNAL, Journal
from ._ledger import Ledger
from ._limits import Limits
from ._model_settings import ModelSettings
from ._open_turn import OpenCalls, OpenTurn, WaitingApproval, open_turn_from_bytes, settled
from ._output_type import OutputType, output_type_of
from ._parts import TurnParts
from ._result import RunResult, StopReason, own_part
from ._tally import Estimate, Tally, estimate_by_length
from ._turn import Turn
from ._typed_answer import TypedAnswer

__all__ = [
    "NOBODY",
    "NO_JOURNAL",
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
    "AgentHook",
    "AgentHookContext",
    "Allowance",
    "Attempt",
    "Budget",
    "BudgetSpent",
    "ConsumerStalled",
    "Emit",
    "Estimate",
    "HookOutcome",
    "HookText",
    "HookToolCall",
    "Inbox",
    "Journal",
    "Ledger",
    "Limits",
    "ModelAnswer",
    "ModelSettings",
    "OpenCalls",
    "OpenTurn",
    "Outcome",
    "OutputType",
    "Purse",
    "RunResult",
    "StopReason",
    "StreamEvent",
    "StreamEventType",
    "Tally",
    "Turn",
    "TurnParts",
    "TypedAnswer",
    "WaitingApproval",
    "estimate_by_length",
    "open_turn_from_bytes",
    "output_type_of",
    "own_part",
    "settled",
]
