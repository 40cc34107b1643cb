"""A scripted answer in OpenAI's chat completions format: server-sent events, or one JSON object.

Source: https://platform.openai.com/docs/api-reference/chat, sections "chat completion object" and "… chunk object".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from nanobot.messages import Delta, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta, Usage

from ._answer import Answer, tool_calls_of
from ._deltas import deltas_of, finish_reason_of

__all__ = [
    "DONE",
    "Event",
    "EventStream",
    "completion",
    "event_stream",
    "huge_event",
    "models_object",
]

DONE = b"data: [DONE]\n\n"

CREATED = 1_700_000_000
"""The creation time in every answer: constant, so that the same script gives the same bytes."""


HUGE_EVENT_END = b'"}}]}\n\n'
"""What follows the text in a text event."""


class Event(NamedTuple):
    """One server-sent event with its blank line. `token` are the bytes in it that say something new."""

    payload: bytes
    token: bytes = b""


class EventStream(Struct, frozen=True):
    """The events of one answer: what opens it, one event per increment, what closes it."""

    opening: Event
    deltas: tuple[Event, ...]
    closing: tuple[Event, ...]


def event_stream(answer: Answer, *, model: str, number: str, include_usage: bool) -> EventStream:
    """Encode an answer as the events of a streamed completion."""
    reason = finish_reason_of(answer)
    closing = [_event(model, number, [_choice({}, reason)])]
    if include_usage and answer.usage is not None:
        closing.append(_event(model, number, [], usage=answer.usage))
    closing.append(Event(DONE))
    return EventStream(
        opening=_event(model, number, [_choice({"role": "assistant", "content": ""})]),
        deltas=tuple(
            _delta_event(delta, answer, model, number) for delta in deltas_of(answer, number)
        ),
        closing=tuple(closing),
    )


def completion(answer: Answer, *, model: str, number: str) -> bytes:
    """Encode an answer as one completion object."""
    message: dict[str, Any] = {"role": "assistant", "content": _whole(answer.text) or None}
    if reasoning := _whole(answer.reasoning):
        message[answer.reasoning_field] = reasoning
    if calls := tool_calls_of(answer, number):
        message["tool_calls"] = [_tool_call_object(call) for call in calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason_of(answer),
    }
    found: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
    }
    if answer.usage is not None:
        found["usage"] = _usage_object(answer.usage)
    return msgspec.json.encode(found)


def huge_event(size: int, *, model: str, number: str) -> bytes:
    """A text event whose line has `size` bytes."""
    payload = _event(model, number, [_choice({"content": ""})]).payload
    start, end = payload[: -len(HUGE_EVENT_END)], payload[-len(HUGE_EVENT_END) :]
    return start + b"x" * (size + len(b"\n\n") - len(payload)) + end


def models_object(models: tuple[str, ...]) -> bytes:
    """The list of models that the service says it has."""
    entries = [
        {"id": model, "object": "model", "created": CREATED, "owned_by": "nanobot.testing"}
        for model in models
    ]
    return msgspec.json.encode({"object": "list", "data": entries})


def _delta_event(delta: Delta, answer: Answer, model: str, number: str) -> Event:
    match delta:
        case TextDelta(text=text):
            return _event(model, number, [_choice({"content": text})], token=text)
        case ReasoningDelta(text=text):
            return _event(model, number, [_choice({answer.reasoning_field: text})], token=text)
        case ToolCallDelta(index=index, id=id, name=name) if id:
            opening = {
                "index": index,
                "id": id,
                "type": "function",
                "function": {"arguments": "", "name": name},
            }
            return _event(model, number, [_choice({"tool_calls": [opening]})], token=name)
        case ToolCallDelta(index=index, arguments=arguments):
            more = {"index": index, "function": {"arguments": arguments}}
            return _event(model, number, [_choice({"tool_calls": [more]})], token=arguments)
        case _:
            raise AssertionError(f"not an increment of a script: {delta!r}")


def _event(
    model: str,
    number: str,
    choices: list[dict[str, Any]],
    *,
    usage: Usage | None = None,
    token: str = "",
) -> Event:
    chunk: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": choices,
    }
    if usage is not None:
        chunk["usage"] = _usage_object(usage)
    token_json = msgspec.json.encode(token)[1:-1]
    return Event(b"data: " + msgspec.json.encode(chunk) + b"\n\n", token_json)


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    # The delta comes last, so that nothing after a token can be mistaken for it.
    return {"index": 0, "finish_reason": finish_reason, "delta": delta}


def _tool_call_object(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _usage_object(usage: Usage) -> dict[str, Any]:
    found: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return found


def _whole(text: Any) -> str:
    return text if isinstance(text, str) else "".join(text)
