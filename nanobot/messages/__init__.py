"""Pure data: what was said, in parts, messages and streamed deltas."""

from ._delta import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageDelta,
)
from ._message import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    ToolOutcome,
    UserMessage,
)
from ._tool_spec import ToolSpec
from ._usage import Usage

__all__ = [
    "AssistantMessage",
    "Delta",
    "FilePart",
    "FinishReason",
    "Finished",
    "ImagePart",
    "Message",
    "Part",
    "ReasoningDelta",
    "SystemMessage",
    "TextDelta",
    "TextPart",
    "ThinkingBlock",
    "ThinkingDelta",
    "ToolCall",
    "ToolCallDelta",
    "ToolMessage",
    "ToolOutcome",
    "ToolSpec",
    "Usage",
    "UsageDelta",
    "UserMessage",
]
