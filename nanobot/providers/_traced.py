"""A provider whose requests are told of while they last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec
from msgspec.structs import replace

from nanobot.errors import ProviderError
from nanobot.messages import (
    AssistantMessage,
    Delta,
    Finished,
    Message,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolMessage,
    Usage,
    UsageDelta,
)
from nanobot.telemetry import Span, Telemetry

from ._cost import cost_usd
from ._provider import DeltaStream, ModelRequest, Provider, RequestWatch

__all__ = ["TracedProvider"]


class TracedProvider:
    """Tells of each request, from when it is made until its answer has ended, with all attempts at it.

    Put it around everything else: what waits, asks again and asks elsewhere is part of the request.
    """

    def __init__(self, provider: Provider, telemetry: Telemetry) -> None:
        self._provider = provider
        self._telemetry = telemetry

    @property
    def name(self) -> str:
        """The name of the provider inside."""
        return self._provider.name

    async def open(self, request: ModelRequest) -> DeltaStream:
        """As `Provider.open`."""
        told = _Told(self._telemetry, self._provider.name, request)
        try:
            with told.inside():
                stream = await self._provider.open(replace(request, watch=told))
        except BaseException as error:
            told.end(type(error).__qualname__)
            raise
        return _TracedStream(stream, told)

    async def aclose(self) -> None:
        """Close the provider inside."""
        await self._provider.aclose()


class _Told:
    """What is known of one request by now. A `RequestWatch`, which hands everything on to the one that was there."""

    def __init__(self, telemetry: Telemetry, provider: str, request: ModelRequest) -> None:
        self._telemetry = telemetry
        self._watch: RequestWatch | None = request.watch
        self._provider, self._model = provider, request.model
        self._attempts = 0
        self._began = time.monotonic()
        self._first_token_s: float | None = None
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._said: list[str] = []
        self._calls: dict[int, list[str]] = {}
        self._ended = False
        self._span: Span = telemetry.span(
            "request",
            request.model,
            provider=provider,
            model=request.model,
            stream=True,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            output_type="text" if request.output is None else "json",
            input_messages=_shown(request.messages) if telemetry.captures_content else None,
        )

    def inside(self) -> AbstractContextManager[object]:
        """What a block in it begins is inside the request."""
        return self._telemetry.inside(self._span)

    def asking(self, provider: str, request: ModelRequest) -> None:
        self._attempts += 1
        self._provider, self._model = provider, request.model
        if self._watch is not None:
            self._watch.asking(provider, request)

    def accepted(self) -> None:
        if self._watch is not None:
            self._watch.accepted()

    def failed(self, error: ProviderError, usage: Usage | None) -> None:
        self._span.happened(
            "attempt failed",
            provider=self._provider,
            response_model=self._model,
            error=type(error).__qualname__,
            status=error.status,
            retry_after_s=error.retry_after_s,
        )
        if self._watch is not None:
            self._watch.failed(error, usage)

    def prompt_tokens(self, request: ModelRequest) -> int:
        return 0 if self._watch is None else self._watch.prompt_tokens(request)

    def brought(self, batch: Sequence[Delta]) -> None:
        if self._first_token_s is None:
            self._first_token_s = time.monotonic() - self._began
        for delta in batch:
            if type(delta) is UsageDelta:
                self._usage = delta.usage
            elif type(delta) is Finished:
                self._finish_reason = delta.reason
            elif not self._telemetry.captures_content:
                continue
            elif type(delta) is TextDelta:
                self._said.append(delta.text)
            elif type(delta) is ToolCallDelta:
                self._calls.setdefault(delta.index, []).append(delta.name + delta.arguments)

    def end(self, error: str | None) -> None:
        if self._ended:
            return
        self._ended = True
        usage = self._usage.to_dict() if self._usage is not None else {}
        usage.pop("total_tokens", None)
        who: Mapping[str, Any] = {"provider": self._provider, "model": self._model}
        self._span.note(
            provider=self._provider,
            response_model=self._model,
            attempts=max(1, self._attempts),
            first_token_s=self._first_token_s,
            finish_reason=self._finish_reason,
            output_messages=self._output() if self._telemetry.captures_content else None,
            **usage,
        )
        self._span.end(error)
        measured = self._telemetry.measured
        measured("request_s", time.monotonic() - self._began, error=error, **who)
        if self._first_token_s is not None:
            measured("first_token_s", self._first_token_s, **who)
        if self._usage is not None:
            measured("prompt_tokens", self._usage.prompt_tokens, **who)
            measured("completion_tokens", self._usage.completion_tokens, **who)
            cost = cost_usd(self._provider, self._model, self._usage)
            if cost:
                measured("cost_usd", cost, **who)

    def _output(self) -> str:
        parts: list[dict[str, Any]] = []
        if self._said:
            parts.append({"type": "text", "content": "".join(self._said)})
        parts += [
            {"type": "tool_call", "content": "".join(pieces)} for pieces in self._calls.values()
        ]
        return _json([{"role": "assistant", "parts": parts}])


class _TracedStream:
    """An answer that is told of until it ends, however it does."""

    def __init__(self, stream: DeltaStream, told: _Told) -> None:
        self._stream = stream
        self._deltas = aiter(stream)
        self._told = told

    def __aiter__(self) -> _TracedStream:
        return self

    async def __anext__(self) -> Sequence[Delta]:
        try:
            batch = await anext(self._deltas)
        except StopAsyncIteration:
            self._told.end(None)
            raise
        except BaseException as error:
            self._told.end(type(error).__qualname__)
            raise
        self._told.brought(batch)
        return batch

    async def aclose(self) -> None:
        self._told.end(None)
        await self._stream.aclose()


def _shown(messages: Sequence[Message]) -> str:
    return _json([{"role": _role(message), "parts": _parts(message)} for message in messages])


def _role(message: Message) -> str:
    return type(message).__name__.removesuffix("Message").lower()


def _parts(message: Message) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    texts = [message.content] if isinstance(message.content, str) else []
    if not isinstance(message.content, str):
        texts = [part.text for part in message.content if isinstance(part, TextPart)]
    kind = "tool_call_response" if isinstance(message, ToolMessage) else "text"
    parts += [{"type": kind, "content": text} for text in texts if text]
    if isinstance(message, AssistantMessage):
        parts += [
            {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ]
    return parts


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:  # halves of characters
        return repr(value)
