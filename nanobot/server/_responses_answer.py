"""`POST /v1/responses`: an answer as clients read it, whole or piece by piece. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/object and …/responses-streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field
from msgspec.structs import replace

from nanobot.agent import (
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    RunResult,
    StreamEvent,
)

from ._answer import cut_short, new_id
from ._api_error import ApiError
from ._parked import ParkedRun, parked_run

__all__ = ["ResponseObject", "ResponsesStream", "responses_body"]


_OPENING: Final = ("response.created", "response.in_progress")


class OutputTextPart(Struct, frozen=True):
    """The text of an answer."""

    text: str
    type: Literal["output_text"] = "output_text"
    annotations: tuple[()] = ()
    logprobs: tuple[()] = ()


class OutputMessage(Struct, frozen=True):
    """One message of the agent."""

    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    content: tuple[OutputTextPart, ...]
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class InputTokensDetails(Struct, frozen=True):
    """What was special about the prompt's tokens."""

    cached_tokens: int


class OutputTokensDetails(Struct, frozen=True):
    """What was special about the answer's tokens."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True):
    """Tokens of the whole run, all its requests to the model together."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(Struct, frozen=True):
    """Why there is no answer."""

    code: str
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why an answer is not whole."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class TextFormat(Struct, frozen=True):
    """Plain text."""

    type: Literal["text"] = "text"


class TextSettings(Struct, frozen=True):
    """How the answer is written."""

    format: TextFormat = TextFormat()


class ResponseObject(Struct, frozen=True, kw_only=True):
    """An answer. What is always the same in it is there because clients expect it."""

    id: str
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: tuple[OutputMessage, ...] = ()
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    object: Literal["response"] = "response"
    parallel_tool_calls: bool = True
    tool_choice: Literal["auto"] = "auto"
    tools: tuple[()] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    text: TextSettings = TextSettings()
    temperature: None = None
    top_p: None = None
    max_output_tokens: None = None
    previous_response_id: None = None
    truncation: Literal["disabled"] = "disabled"
    store: bool = True
    nanobot: ParkedRun | UnsetType = UNSET


def responses_body(result: RunResult, empty: ResponseObject) -> bytes:
    """The body of an answer in one piece: JSON."""
    cut = cut_short(result.stop_reason, result.metadata)
    message = _message(new_id("msg_"), result.content, "incomplete" if cut else "completed")
    return msgspec.json.encode(_ended(empty, result, (message,)))


class ResponsesStream:
    """Makes a stream of server-sent events out of a run's. Each stretch of text between tools is a message of its own."""

    def __init__(self, empty: ResponseObject) -> None:
        """`empty` is the response before there is anything in it."""
        self._response = empty
        self._number = len(_OPENING)
        self._done: list[OutputMessage] = []
        self._item_id = ""
        self._text: list[str] = []

    def opening(self) -> bytes:
        """The first events: there will be an answer."""
        return b"".join(
            _sse(kind, number, response=self._response) for number, kind in enumerate(_OPENING)
        )

    def next(self, event: StreamEvent) -> bytes:
        """What an event of the run adds to the stream, or b""."""
        if event.type == STREAM_EVENT_TEXT_DELTA:
            opening = b"" if self._item_id else self._open()
            self._text.append(event.delta)
            return opening + self._part_event(
                "response.output_text.delta", delta=event.delta, logprobs=()
            )
        if event.type == STREAM_EVENT_TEXT_COMPLETED and self._item_id:
            return self._close("completed")
        return b""

    def completed(self, result: RunResult) -> bytes:
        """The end of a stream that has its answer."""
        end = self._close("completed") if self._item_id else b""
        ended = _ended(self._response, result, tuple(self._done))
        return end + self._event(f"response.{ended.status}", response=ended)

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that has none."""
        end = self._close("incomplete") if self._item_id else b""
        told = ResponseError(error.code or "server_error", str(error))
        failed = replace(self._response, status="failed", error=told, output=tuple(self._done))
        return end + self._event("response.failed", response=failed)

    def _open(self) -> bytes:
        self._item_id = new_id("msg_")
        item = OutputMessage(self._item_id, "in_progress", ())
        return self._event(
            "response.output_item.added", output_index=len(self._done), item=item
        ) + self._part_event("response.content_part.added", part=OutputTextPart(""))

    def _close(self, status: Literal["completed", "incomplete"]) -> bytes:
        text = "".join(self._text)
        item = _message(self._item_id, text, status)
        end = (
            self._part_event("response.output_text.done", text=text, logprobs=())
            + self._part_event("response.content_part.done", part=item.content[0])
            + self._event("response.output_item.done", output_index=len(self._done), item=item)
        )
        self._done.append(item)
        self._item_id = ""
        self._text.clear()
        return end

    def _part_event(self, kind: str, **fields: Any) -> bytes:
        return self._event(
            kind, item_id=self._item_id, output_index=len(self._done), content_index=0, **fields
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        return _sse(kind, self._number - 1, **fields)


def _sse(kind: str, number: int, **fields: Any) -> bytes:
    data = msgspec.json.encode({"type": kind, "sequence_number": number, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _ended(
    response: ResponseObject, result: RunResult, output: tuple[OutputMessage, ...]
) -> ResponseObject:
    cut = cut_short(result.stop_reason, result.metadata)
    return replace(
        response,
        status="incomplete" if cut else "completed",
        incomplete_details=IncompleteDetails() if cut else None,
        output=output,
        usage=_usage(result.usage),
        nanobot=parked_run(result),
    )


def _message(item_id: str, text: str, status: Literal["completed", "incomplete"]) -> OutputMessage:
    return OutputMessage(item_id, status, (OutputTextPart(text),))


def _usage(counts: Mapping[str, int]) -> ResponseUsage:
    return ResponseUsage(
        counts.get("prompt_tokens", 0),
        InputTokensDetails(counts.get("cached_tokens", 0)),
        counts.get("completion_tokens", 0),
        OutputTokensDetails(counts.get("reasoning_tokens", 0)),
        counts.get("total_tokens", 0),
    )
