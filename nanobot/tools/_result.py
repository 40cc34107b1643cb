"""What became of one tool call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from nanobot.messages import FilePart, ImagePart, Part, TextPart, ToolCall, ToolMessage, ToolOutcome

__all__ = [
    "ToolContent",
    "ToolResult",
    "cancelled_before_start",
    "content_from_value",
    "denied",
    "failed",
    "interrupted",
    "succeeded",
]

ToolContent: TypeAlias = str | tuple[Part, ...]

_DETAIL = 120
_PARTS = (TextPart, ImagePart, FilePart)


class ToolResult(Struct, frozen=True, eq=False):
    """What became of one tool call.

    Attributes:
      message: What the model is told.
      ok: Whether the tool did what it was asked.
      detail: The result or the error on one line of at most 120 characters, for events and logs.
      error: What went wrong, in the words the model is told; None if `ok`.
      exception: The exception behind `error`, with its traceback, for hooks and traces. The model never sees it.
      elapsed_s: Seconds from the start of the call to its end, on Trio's clock.
    """

    message: ToolMessage
    ok: bool
    detail: str
    error: str | None = None
    exception: BaseException | None = None
    elapsed_s: float = 0.0


def succeeded(call: ToolCall, content: ToolContent, *, elapsed_s: float) -> ToolResult:
    """The result of a tool that returned."""
    message = ToolMessage(call.id, call.name, content)
    return ToolResult(message, ok=True, detail=_one_line(content), elapsed_s=elapsed_s)


def failed(
    call: ToolCall,
    error: str,
    *,
    outcome: ToolOutcome = "error",
    exception: BaseException | None = None,
    elapsed_s: float = 0.0,
) -> ToolResult:
    """The result of a call that came to nothing; the model is told `Error: ` and then `error`."""
    error = _encodable(error).strip() or "the tool failed and gave no reason."
    content = error if error.startswith("Error") else f"Error: {error}"
    message = ToolMessage(call.id, call.name, content, outcome)
    return ToolResult(message, False, _one_line(error), error, exception, elapsed_s)


def denied(call: ToolCall, reason: str, *, exception: BaseException | None = None) -> ToolResult:
    """The result of a call that somebody did not allow; it was not run."""
    text = f"This call was not allowed, and not run: {reason}"
    return failed(call, text, outcome="denied", exception=exception)


def cancelled_before_start(call: ToolCall) -> ToolResult:
    """The result of a call whose turn never came."""
    return failed(
        call,
        "The run was cancelled before this call started; it was not run.",
        outcome="cancelled_before_start",
    )


def interrupted(call: ToolCall) -> ToolResult:
    """The result of a call that was running when the run was cancelled."""
    text = "The run was cancelled during this call. It may have run in part or in full: check before you repeat it."
    return failed(call, text, outcome="interrupted_may_have_run")


def content_from_value(value: object, tool_name: str) -> ToolContent:
    """What the model is shown of a tool's return value.

    Text is shown as it is, message parts too, bytes if they are text, everything else as JSON; what JSON cannot
    carry is shown by its `str`. Nothing at all is said in words, for an empty result reads like a failure.

    Raises:
      TypeError, ValueError, RecursionError: The value cannot be shown.
    """
    if isinstance(
        value, Generator | AsyncGenerator
    ):  # perhaps without end, so it is not ours to collect
        raise TypeError("a generator; collect what it yields and return that")
    match value:
        case None | "" | b"":
            return f"({tool_name} completed with no output)"
        case str():
            return _encodable(value)
        case bytes() | bytearray() | memoryview():
            return _text_from_bytes(bytes(value))
        case TextPart() | ImagePart() | FilePart():
            return (_encodable_part(value),)
        case list() | tuple() if value and all(isinstance(part, _PARTS) for part in value):
            return tuple(_encodable_part(part) for part in value)
    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _text_from_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"({len(value):,} bytes that are no text)"


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # pydantic, without importing it
    return dump(mode="json") if callable(dump) and not isinstance(value, type) else str(value)


def _encodable_part(part: Part) -> Part:
    return TextPart(_encodable(part.text)) if isinstance(part, TextPart) else part


def _encodable(text: str) -> str:
    """`text`, with what UTF-8 cannot carry (half of a surrogate pair, as in undecodable file names) shown as `?`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _one_line(content: str | Sequence[Part]) -> str:
    if not isinstance(content, str):
        texts = [part.text for part in content if isinstance(part, TextPart)]
        content = (
            texts[0] if texts else f"{len(content)} {'part' if len(content) == 1 else 'parts'}"
        )
    line = next((line.strip() for line in content[:4096].splitlines() if line.strip()), "")
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    return line if len(line) <= _DETAIL else f"{line[: _DETAIL - 1]}…"
