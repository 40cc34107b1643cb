"""The wire formats and the retries against llmock, which breaks answers to order and judges what its client made of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from msgspec import structs

from nanobot.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    ProviderTimeout,
    RequestRejected,
)
from nanobot.messages import Assembler, Message, TextDelta, ToolMessage, ToolSpec, UserMessage
from nanobot.providers import ModelRequest, Primed, Provider, Retrying, RetryPolicy, Timeouts
from nanobot.providers.anthropic import AnthropicProvider
from nanobot.providers.openai_chat import OpenAIChatProvider
from nanobot.providers.openai_responses import OpenAIResponsesProvider
from tests.providers.peer_servers import Llmock, llmock, needs_llmock

pytestmark = [pytest.mark.peer, needs_llmock]

Asked: TypeAlias = type[AnthropicProvider | OpenAIChatProvider | OpenAIResponsesProvider]

MODELS: dict[Asked, str] = {
    AnthropicProvider: "claude-opus-4-5",
    OpenAIChatProvider: "gpt-4.1",
    OpenAIResponsesProvider: "gpt-5",
}
any_format = pytest.mark.parametrize("asked", MODELS, ids=lambda asked: asked.__name__)

READ = ToolSpec(
    "read_file",
    "Reads a file.",
    {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
WORDS = " ".join(f"word{n}" for n in range(30))
QUICK = RetryPolicy(max_attempts=4, first_delay_s=0.2, max_delay_s=2.0)


@asynccontextmanager
async def asking(asked: Asked) -> AsyncIterator[tuple[Llmock, Provider]]:
    """llmock, and a provider for it that retries as the runtime's do, with shorter waits."""
    async with llmock() as server:
        timeouts = Timeouts(connect_s=5, first_token_s=1.5, between_tokens_s=0.5)
        base_url = server.url + ("/anthropic" if asked is AnthropicProvider else "/v1")
        provider = asked(structs.replace(server.endpoint, base_url=base_url, timeouts=timeouts))
        yield server, Retrying(Primed(provider), QUICK)
        await provider.aclose()


def question(asked: Asked, *history: Message, tools: tuple[ToolSpec, ...] = ()) -> ModelRequest:
    return ModelRequest(MODELS[asked], history or (UserMessage("Hello there"),), tools)


async def answer(provider: Provider, request: ModelRequest) -> Assembler:
    assembler = Assembler()
    stream = await provider.open(request)
    try:
        async for batch in stream:
            assembler.feed(batch)
    finally:
        await stream.aclose()
    return assembler


def fault(kind: str, **how: Any) -> dict[str, Any]:
    return {"type": "stream_fault", "kind": kind, **how}


@any_format
async def test_an_answer_and_a_turn_with_a_streamed_call(asked: Asked) -> None:
    async with asking(asked) as (server, provider):
        plain = await answer(provider, question(asked))
        assert plain.message().content
        assert plain.finish_reason == "stop"
        assert plain.usage is not None
        assert plain.usage.prompt_tokens > 0
        assert plain.usage.completion_tokens > 0

        call = {"name": "read_file", "arguments": {"path": "a ü.txt"}}
        await server.breaks({"type": "reply", "tool_calls": [call]})
        asks = UserMessage("Please read the file")
        first = (await answer(provider, question(asked, asks, tools=(READ,)))).message()
        (made,) = first.tool_calls
        assert (made.name, json.loads(made.arguments)) == ("read_file", {"path": "a ü.txt"})
        result = ToolMessage(made.id, made.name, "it says hello")
        last = await answer(provider, question(asked, asks, first, result, tools=(READ,)))
        assert last.message().content
        assert not last.message().tool_calls
        assert last.finish_reason == "stop"
        assert await server.findings() == []


@any_format
async def test_what_may_succeed_later_is_asked_again_and_llmock_finds_no_fault(
    asked: Asked,
) -> None:
    # Of Responses' first two events we read nothing but their names: what is broken there takes nothing away.
    unread = 2 if asked is OpenAIResponsesProvider else 0
    async with asking(asked) as (server, provider):
        for requests, behaviors in (
            (3, [{"type": "fail", "status": 429, "retry_after": 0.4, "times": 2}]),
            (3, [{"type": "fail", "status": 500}, {"type": "fail", "status": 503}]),
            (2, [{"type": "fail", "status": 529}]),
            (2, [{"type": "fail", "status": 408}]),
            (2, [fault("disconnect", after_chunks=0)]),
            (2, [fault("truncate", after_chunks=0)]),
            (2, [fault("malformed", after_chunks=unread)]),
            (2, [{"type": "slow_first_token", "seconds": 4}]),
        ):
            await server.breaks(*behaviors)
            assert (await answer(provider, question(asked))).message().content, behaviors
            assert await server.requests() == requests, behaviors
            assert await server.findings() == [], behaviors


@any_format
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_can_never_succeed_is_asked_once(asked: Asked, status: int) -> None:
    async with asking(asked) as (server, provider):
        await server.breaks({"type": "fail", "status": status, "times": None})
        kind = AuthenticationFailed if status in (401, 403) else RequestRejected
        with pytest.raises(kind) as caught:
            await answer(provider, question(asked))
        assert caught.value.status == status
        assert await server.requests() == 1
        assert await server.findings() == []


@any_format
async def test_an_outage_is_given_up_after_the_attempts_that_are_allowed(asked: Asked) -> None:
    async with asking(asked) as (server, provider):
        await server.breaks({"type": "fail", "status": 503, "times": None})
        with pytest.raises(ProviderError) as caught:
            await answer(provider, question(asked))
        assert caught.value.status == 503
        assert await server.requests() == QUICK.max_attempts
        assert await server.findings() == []


@any_format
@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (fault("disconnect", after_chunks=8), ConnectionFailed),
        (fault("truncate", after_chunks=8), MalformedStream),
        (fault("malformed", after_chunks=8), MalformedStream),
        (fault("stall", after_chunks=8, stall_seconds=5), ProviderTimeout),
    ],
    ids=["disconnect", "truncate", "malformed", "stall"],
)
async def test_half_an_answer_is_an_error_and_is_not_begun_again(
    asked: Asked, broken: dict[str, Any], kind: type[ProviderError]
) -> None:
    """llmock takes every cut stream that is not asked for again for an accepted one; what counts is what is raised."""
    async with asking(asked) as (server, provider):
        await server.breaks({"type": "reply", "text": WORDS}, broken)
        said = ""
        stream = await provider.open(question(asked))
        with pytest.raises(kind):
            async for batch in stream:
                said += "".join(delta.text for delta in batch if isinstance(delta, TextDelta))
        await stream.aclose()
        assert said
        assert WORDS.startswith(said)
        assert await server.requests() == 1


@any_format
async def test_arguments_that_are_no_json_are_handed_on_for_the_agent_to_refuse(
    asked: Asked,
) -> None:
    async with asking(asked) as (server, provider):
        await server.breaks({"type": "tool_fault", "kind": "malformed_arguments"})
        asks = UserMessage("Please read the file")
        first = (await answer(provider, question(asked, asks, tools=(READ,)))).message()
        (made,) = first.tool_calls
        with pytest.raises(json.JSONDecodeError):
            json.loads(made.arguments)
        refused = ToolMessage(made.id, made.name, "not JSON", outcome="error")
        last = await answer(provider, question(asked, asks, first, refused, tools=(READ,)))
        assert last.message().content
