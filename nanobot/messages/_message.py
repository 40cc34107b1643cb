"""The four kinds of history entry, and the parts they are made of.

Messages never change. Their `__dict__` (hence `dict=True`) is for what others work out of them once, and is no part of them:
it is not compared, encoded or copied.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field

__all__ = [
    "MAX_IMAGE_BYTES",
    "AssistantMessage",
    "FilePart",
    "ImagePart",
    "Message",
    "Part",
    "SystemMessage",
    "TextPart",
    "ThinkingBlock",
    "ToolCall",
    "ToolMessage",
    "ToolOutcome",
    "UserMessage",
]

ToolOutcome: TypeAlias = Literal[
    "ok", "error", "denied", "timed_out", "cancelled_before_start", "interrupted_may_have_run"
]
"""What became of a tool call. Every call in a stored history has exactly one result with one of these."""


MAX_IMAGE_BYTES: Final = 20 * 1024 * 1024
"""A larger image is shown to no model: services refuse it, and with it every later request of its session; and a request holds it
three times over."""


class TextPart(Struct, frozen=True, gc=False, tag_field="type", tag="text"):
    """Plain text inside a message that has several parts."""

    text: str


class ImagePart(Struct, frozen=True, gc=False, tag_field="type", tag="image", omit_defaults=True):
    """An image, by reference: a path on this machine, an http(s) URL or a `data:` URL.

    History keeps the reference; bytes are read when a request is encoded.
    """

    source: str
    media_type: str = ""


class FilePart(Struct, frozen=True, gc=False, tag_field="type", tag="file", omit_defaults=True):
    """A file that the model is told about by path and may open with a tool."""

    path: str
    media_type: str = ""


Part: TypeAlias = TextPart | ImagePart | FilePart


class ToolCall(Struct, frozen=True, gc=False, omit_defaults=True):
    """The model's request to run a tool.

    `arguments` is the JSON text exactly as the model wrote it: it may be invalid, and only the tool layer decides.
    `extra` carries what a vendor wants back with the call (signatures), untouched.
    """

    id: str
    name: str
    arguments: str = "{}"
    extra: dict[str, Any] = field(default_factory=dict)


class ThinkingBlock(Struct, frozen=True, gc=False, omit_defaults=True):
    """A vendor's reasoning item that must be sent back as it came (signature, encrypted payload)."""

    kind: str
    text: str = ""
    signature: str = ""
    payload: dict[str, Any] = field(default_factory=dict)


class SystemMessage(
    Struct, frozen=True, tag_field="role", tag="system", omit_defaults=True, dict=True
):
    """Standing instructions. A stored history may contain some; the prompt's own is never stored."""

    content: str
    timestamp: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class UserMessage(Struct, frozen=True, tag_field="role", tag="user", omit_defaults=True, dict=True):
    """What the user said, without anything that was added for the model."""

    content: str | tuple[Part, ...]
    media: tuple[str, ...] = ()
    timestamp: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class AssistantMessage(
    Struct, frozen=True, tag_field="role", tag="assistant", omit_defaults=True, dict=True
):
    """What the model said: text, reasoning and the tool calls it asked for.

    `interrupted` marks a partial answer kept after a cancel, a crash or a failed stream.
    """

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    thinking: tuple[ThinkingBlock, ...] = ()
    interrupted: bool = False
    timestamp: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool", omit_defaults=True, dict=True):
    """Our answer to one tool call, joined to it by `tool_call_id`."""

    tool_call_id: str
    name: str
    content: str | tuple[Part, ...]
    outcome: ToolOutcome = "ok"
    timestamp: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage
