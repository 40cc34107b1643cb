"""Tools: what the model may do, and how a typed function becomes something it can do."""

from ._approval import (
    NO_APPROVAL,
    Approval,
    ApprovalMode,
    ApprovalRequest,
    Approved,
    Approver,
    Decision,
    Denied,
    Park,
    rules_without_a_tool,
)
from ._arguments import decode_arguments
from ._batch import Batch, OnBegin, OnResult, OnStart, execute_all
from ._cancel_signal import CancelSignal
from ._cross import Cross, run_here
from ._execute import MAX_RESULT_CHARS, Decided, ParkedCall, bounded, execute
from ._kept_results import remove_old_results, remove_old_results_soon
from ._plugins import PLUGIN_GROUP, plugin_tools
from ._result import ToolResult, cancelled_before_start, denied, failed, interrupted, succeeded
from ._run_context import RunContext
from ._spawner import Spawner
from ._tool import FunctionTool, Tool, ToolTraits, tool
from ._toolset import Toolset
from ._workspace import Workspace

__all__ = [
    "MAX_RESULT_CHARS",
    "NO_APPROVAL",
    "PLUGIN_GROUP",
    "Approval",
    "ApprovalMode",
    "ApprovalRequest",
    "Approved",
    "Approver",
    "Batch",
    "CancelSignal",
    "Cross",
    "Decided",
    "Decision",
    "Denied",
    "FunctionTool",
    "OnBegin",
    "OnResult",
    "OnStart",
    "Park",
    "ParkedCall",
    "RunContext",
    "Spawner",
    "Tool",
    "ToolResult",
    "ToolTraits",
    "Toolset",
    "Workspace",
    "bounded",
    "cancelled_before_start",
    "decode_arguments",
    "denied",
    "execute",
    "execute_all",
    "failed",
    "interrupted",
    "plugin_tools",
    "remove_old_results",
    "remove_old_results_soon",
    "rules_without_a_tool",
    "run_here",
    "succeeded",
    "tool",
]
