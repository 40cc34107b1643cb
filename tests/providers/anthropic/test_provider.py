"""What an Anthropic provider sends besides the body, and where."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from nanobot.errors import InvalidArgument
from nanobot.messages import Finished, UsageDelta, UserMessage
from nanobot.providers import Endpoint, ModelRequest
from nanobot.providers.anthropic import AnthropicProvider
from tests.providers.loopback import (
    KEY,
    REQUEST,
    MockPool,
    Peer,
    ask,
    ask_until_it_fails,
    named_event,
    serving,
)

ANSWER = named_event("message_delta", delta={"stop_reason": "end_turn"}) + named_event(
    "message_stop"
)


def provider_of(answer: bytes = ANSWER, **settings: Any) -> tuple[AnthropicProvider, list[str]]:
    seen: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, content=answer)

    settings = {"name": "acme", "base_url": "https://a.example", "api_key": KEY, **settings}
    return AnthropicProvider(Endpoint(**settings), pool=MockPool(respond)), seen


async def test_the_request_carries_key_version_body_and_configured_extras() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.stream_events(ANSWER)

    async with serving(script) as base_url:
        endpoint = Endpoint(
            name="acme",
            base_url=base_url,
            api_key=f"{KEY}\n",
            extra_headers={"anthropic-beta": "context-1m", "Anthropic-Version": "2099-01-01"},
            extra_query={"beta": "true"},
            extra_body={"metadata": {"user_id": "u"}},
        )
        provider = AnthropicProvider(endpoint)
        await ask(provider, ModelRequest("claude-opus-4-5", [UserMessage("hi")], max_tokens=7))
        await provider.aclose()
    target, headers, body = seen[0]
    assert target == "/v1/messages?beta=true"
    assert headers["x-api-key"] == KEY
    assert "authorization" not in headers
    assert headers["anthropic-version"] == "2099-01-01"
    assert headers["anthropic-beta"] == "context-1m"
    assert body == {
        "model": "claude-opus-4-5",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "stream": True,
        "metadata": {"user_id": "u"},
    }


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
        (" https://api.anthropic.com/v1/ ", "https://api.anthropic.com/v1/messages"),
        ("https://a.example/v1/messages", "https://a.example/v1/messages"),
        ("https://a.example/anthropic", "https://a.example/anthropic/v1/messages"),
        ("https://a.example/v1?x=1", "https://a.example/v1/messages?x=1"),
        ("http://[::1]:8080", "http://[::1]:8080/v1/messages"),
    ],
)
async def test_the_base_url_may_have_its_version_or_not(base_url: str, url: str) -> None:
    provider, seen = provider_of(base_url=base_url, api_key="")
    assert (await ask(provider))[-1] == Finished("stop")
    assert seen == [url]


async def test_token_counts_that_came_before_an_error_are_not_lost() -> None:
    provider, _ = provider_of(
        named_event("message_start", message={"usage": {"input_tokens": 9}})
        + named_event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    )
    deltas, _error = await ask_until_it_fails(provider)
    assert [type(delta) for delta in deltas] == [UsageDelta]


async def test_an_effort_that_there_is_not_is_refused_before_anything_is_sent() -> None:
    provider, seen = provider_of()
    request = ModelRequest("claude-opus-4-5", REQUEST.messages, reasoning_effort="extreme")
    with pytest.raises(InvalidArgument, match="extreme"):
        await provider.open(request)
    assert seen == []
