"""What the model is shown: the system prompt, the turn note, the window of history, and what it all costs."""

from ._counter import LazyCounter, count_ahead
from ._media import user_message
from ._prompt import COMPACT, FULL, PromptProfile, SystemPrompt, system_prompt
from ._recent_history import recent_history, recent_history_tokens
from ._sections import Section, join_sections
from ._shown import shown_messages, with_turn_note
from ._skills import Skill
from ._tokens import (
    Calibration,
    TextCounter,
    estimate_text,
    exact_counter,
    message_tokens,
    messages_tokens,
    tool_tokens,
)
from ._turn_note import turn_note
from ._window import Window, fit, history_budget
from ._workspace_files import WorkspaceFiles, WorkspaceTexts

__all__ = [
    "COMPACT",
    "FULL",
    "Calibration",
    "LazyCounter",
    "PromptProfile",
    "Section",
    "Skill",
    "SystemPrompt",
    "TextCounter",
    "Window",
    "WorkspaceFiles",
    "WorkspaceTexts",
    "count_ahead",
    "estimate_text",
    "exact_counter",
    "fit",
    "history_budget",
    "join_sections",
    "message_tokens",
    "messages_tokens",
    "recent_history",
    "recent_history_tokens",
    "shown_messages",
    "system_prompt",
    "tool_tokens",
    "turn_note",
    "user_message",
    "with_turn_note",
]
