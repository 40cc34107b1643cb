"""Tools: what the model may do, and how a typed function becomes something it can do."""

from ._arguments import decode_arguments
from ._batch import Batch, OnResult, OnStart, execute_all
from ._cross import Cross, run_here
from ._execute import MAX_RESULT_CHARS, execute
from ._kept_results import remove_old_results
from ._result import ToolResult, cancelled_before_start, denied, failed, interrupted, succeeded
from ._run_context import RunContext
from ._tool import FunctionTool, Tool, ToolTraits, tool
from ._toolset import Toolset
from ._workspace import Workspace

__all__ = [
    "MAX_RESULT_CHARS",
    "Batch",
    "Cross",
    "FunctionTool",
    "OnResult",
    "OnStart",
    "RunContext",
    "Tool",
    "ToolResult",
    "ToolTraits",
    "Toolset",
    "Workspace",
    "cancelled_before_start",
    "decode_arguments",
    "denied",
    "execute",
    "execute_all",
    "failed",
    "interrupted",
    "remove_old_results",
    "run_here",
    "succeeded",
    "tool",
]
