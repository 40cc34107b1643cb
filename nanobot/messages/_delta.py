"""Streamed increments of one model answer."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from ._message import ThinkingBlock
from ._usage import Usage

__all__ = [
    "Delta",
    "FinishReason",
    "Finished",
    "ReasoningDelta",
    "TextDelta",
    "ThinkingDelta",
    "ToolCallDelta",
    "UsageDelta",
]

FinishReason: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter", "unknown"]


class TextDelta(Struct, frozen=True, gc=False):
    """More text of the answer; never empty."""

    text: str


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More of the model's visible reasoning; never empty."""

    text: str


class ThinkingDelta(Struct, frozen=True):
    """A finished reasoning item that has to be sent back with the next request."""

    block: ThinkingBlock


class ToolCallDelta(Struct, frozen=True):
    """A fragment of one tool call. `index` tells parallel calls of one answer apart.

    `id` and `name` come once, usually first; `arguments` is the next piece of the JSON text.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] | None = None


class UsageDelta(Struct, frozen=True):
    """Token counts so far for this request; a later one replaces an earlier one."""

    usage: Usage


class Finished(Struct, frozen=True, gc=False):
    """The model ended its answer on purpose. A stream that stops without it was cut."""

    reason: FinishReason


Delta: TypeAlias = (
    TextDelta | ReasoningDelta | ThinkingDelta | ToolCallDelta | UsageDelta | Finished
)
