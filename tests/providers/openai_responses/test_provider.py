"""What an OpenAI Responses provider sends besides the body, and where."""

from __future__ import annotations

import httpx
import pytest

from nanobot.messages import Finished, UserMessage
from nanobot.providers import Endpoint, ModelRequest
from nanobot.providers.openai_responses import OpenAIResponsesProvider
from tests.providers.loopback import KEY, MockPool, Peer, ask, named_event, serving

ANSWER = named_event("response.completed", response={"status": "completed"})


async def test_the_request_carries_key_body_and_configured_extras() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.stream_events(ANSWER)

    async with serving(script) as base_url:
        endpoint = Endpoint(
            name="acme",
            base_url=base_url,
            api_key=f"{KEY}\n",
            extra_headers={"OpenAI-Organization": "org"},
            extra_query={"api-version": "preview"},
            extra_body={"service_tier": "flex"},
        )
        provider = OpenAIResponsesProvider(endpoint)
        await ask(provider, ModelRequest("gpt-4.1", [UserMessage("hi")], max_tokens=70))
        await provider.aclose()
    target, headers, body = seen[0]
    assert target == "/v1/responses?api-version=preview"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["openai-organization"] == "org"
    assert body == {
        "model": "gpt-4.1",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            }
        ],
        "max_output_tokens": 70,
        "store": False,
        "stream": True,
        "service_tier": "flex",
    }


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/responses"),
        ("https://a.example/openai/v1/", "https://a.example/openai/v1/responses"),
        (" https://a.example/v1/responses ", "https://a.example/v1/responses"),
    ],
)
async def test_the_base_url_is_joined_once(base_url: str, url: str) -> None:
    seen: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        assert "authorization" not in request.headers  # no key, no credentials
        return httpx.Response(200, content=ANSWER)

    provider = OpenAIResponsesProvider(
        Endpoint(name="acme", base_url=base_url), pool=MockPool(respond)
    )
    assert await ask(provider) == [Finished("stop")]
    assert seen == [url]
