"""`POST /v1/chat/completions`: an answer as clients read it, whole or piece by piece. Pure.

Source: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from nanobot.agent import (
    STREAM_EVENT_REASONING_DELTA,
    STREAM_EVENT_TEXT_COMPLETED,
    STREAM_EVENT_TEXT_DELTA,
    RunResult,
    StreamEvent,
)

from ._answer import finish_reason, new_id
from ._api_error import ApiError
from ._parked import ParkedRun, parked_run

__all__ = ["ChatCompletion", "ChatStream", "chat_body"]

_DONE: Final = b"data: [DONE]\n\n"


class PromptDetails(Struct, frozen=True):
    """What was special about the prompt's tokens."""

    cached_tokens: int


class CompletionDetails(Struct, frozen=True):
    """What was special about the answer's tokens."""

    reasoning_tokens: int


class ChatUsage(Struct, frozen=True):
    """Tokens of the whole run, all its requests to the model together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class AnswerMessage(Struct, frozen=True):
    """The answer."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    """The only choice there is."""

    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    index: Literal[0] = 0
    logprobs: None = None


class ChatCompletion(Struct, frozen=True):
    """An answer in one piece."""

    id: str
    created: int
    model: str
    choices: tuple[Choice]
    usage: ChatUsage
    nanobot: ParkedRun | UnsetType = UNSET
    object: Literal["chat.completion"] = "chat.completion"


class Delta(Struct, frozen=True, omit_defaults=True):
    """What came since the last delta."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None


class DeltaChoice(Struct, frozen=True):
    """The only choice there is, as it grows."""

    delta: Delta
    finish_reason: Literal["stop", "length"] | None = None
    index: Literal[0] = 0
    logprobs: None = None


class ChatChunk(Struct, frozen=True):
    """One event of a stream."""

    id: str
    created: int
    model: str
    choices: tuple[DeltaChoice, ...]
    usage: ChatUsage | UnsetType | None = UNSET
    nanobot: ParkedRun | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


def chat_body(result: RunResult, model: str, created: int) -> bytes:
    """The body of an answer in one piece: JSON."""
    return msgspec.json.encode(
        ChatCompletion(
            new_id("chatcmpl-"),
            created,
            model,
            (Choice(AnswerMessage(result.content), finish_reason(result)),),
            _usage(result.usage),
            parked_run(result),
        )
    )


class ChatStream:
    """Makes a stream of server-sent events out of a run's.

    Stretches of text between which tools ran are told apart by an empty line.
    """

    def __init__(self, model: str, created: int, *, include_usage: bool) -> None:
        self._id = new_id("chatcmpl-")
        self._model = model
        self._created = created
        self._include_usage = include_usage
        self._between = False

    def opening(self) -> bytes:
        """The first event: who is speaking."""
        return self._delta(Delta(role="assistant", content=""))

    def next(self, event: StreamEvent) -> bytes:
        """What an event of the run adds to the stream, or b""."""
        if event.type == STREAM_EVENT_TEXT_DELTA:
            text = f"\n\n{event.delta}" if self._between else event.delta
            self._between = False
            return self._delta(Delta(content=text))
        if event.type == STREAM_EVENT_REASONING_DELTA:
            return self._delta(Delta(reasoning_content=event.delta))
        if event.type == STREAM_EVENT_TEXT_COMPLETED:
            self._between = bool(event.resuming and event.content)
        return b""

    def completed(self, result: RunResult) -> bytes:
        """The end of a stream that has its answer."""
        choice = DeltaChoice(Delta(), finish_reason(result))
        end = self._event((choice,), parked=parked_run(result))
        if self._include_usage:
            end += self._event((), _usage(result.usage))
        return end + _DONE

    def failed(self, error: ApiError) -> bytes:
        """The last event of a stream that has none."""
        return _sse(error.body)

    def _delta(self, delta: Delta) -> bytes:
        return self._event((DeltaChoice(delta),))

    def _event(
        self,
        choices: tuple[DeltaChoice, ...],
        usage: ChatUsage | None = None,
        parked: ParkedRun | UnsetType = UNSET,
    ) -> bytes:
        return _sse(
            msgspec.json.encode(
                ChatChunk(
                    self._id,
                    self._created,
                    self._model,
                    choices,
                    usage if self._include_usage else UNSET,
                    parked,
                )
            )
        )


def _sse(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


def _usage(counts: Mapping[str, Any]) -> ChatUsage:
    return ChatUsage(
        counts.get("prompt_tokens", 0),
        counts.get("completion_tokens", 0),
        counts.get("total_tokens", 0),
        PromptDetails(counts.get("cached_tokens", 0)),
        CompletionDetails(counts.get("reasoning_tokens", 0)),
    )
