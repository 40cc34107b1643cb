"""No key gets out of a provider that failed: not by its error, nor by the variables that a tracer shows with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio

from nanobot.config import config_from_tree
from nanobot.errors import ConfigError, NanobotError, ProviderError
from nanobot.providers import Endpoint, Provider, Timeouts
from nanobot.providers._select import select_model
from nanobot.providers.anthropic import AnthropicProvider
from nanobot.providers.openai_chat import OpenAIChatProvider
from nanobot.providers.openai_responses import OpenAIResponsesProvider
from tests.providers.loopback import END, HEAD, Peer, Script, ask, http_chunk, replying, serving
from tests.providers.shown import all_that_is_shown_of

KEYS = {
    "api_key": "canary-key-0123456789",
    "header": "canary-header-0123456789",
    "query": "canary-query-0123456789",
    "proxy": "canary-proxy-0123456789",
}
"""One for each place that holds one, unlike any that a pattern would recognize."""

QUOTED = " and ".join(key for place, key in KEYS.items() if place != "proxy")

Asked = type[AnthropicProvider | OpenAIChatProvider | OpenAIResponsesProvider]

any_format = pytest.mark.parametrize(
    "asked",
    [OpenAIChatProvider, AnthropicProvider, OpenAIResponsesProvider],
    ids=lambda asked: asked.__name__,
)


def endpoint(base_url: str, **settings: Any) -> Endpoint:
    return Endpoint(
        **{
            "name": "acme",
            "base_url": base_url,
            "api_key": KEYS["api_key"],
            "extra_headers": {"X-Secret": KEYS["header"]},
            "extra_query": {"token": KEYS["query"]},
            "timeouts": Timeouts(connect_s=5, first_token_s=0.2, between_tokens_s=0.2),
            **settings,
        }
    )


def assert_nothing_shown(error: BaseException, logged: str = "") -> None:
    shown = all_that_is_shown_of(error) + logged
    leaks = [line[:300] for line in shown.splitlines() if "canary" in line]
    assert leaks == []


async def failure_of(provider: Provider) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider)
    await provider.aclose()
    return caught.value


async def hang_up(peer: Peer) -> None:
    await peer.request()


async def say_nothing(peer: Peer) -> None:
    await peer.request()
    await peer.client_hung_up()


async def fall_silent(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + http_chunk(f": {QUOTED}\n\n".encode()))
    await peer.client_hung_up()


def streaming(text: str, end: bytes = END) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + http_chunk(text.encode()) + end)

    return script


BREAKAGES: dict[str, Script] = {
    "refused": replying("401 No", f'{{"error":{{"message":"not {QUOTED}"}}}}'.encode()),
    "refused by a page": replying("502 Bad", f"<html>{QUOTED}</html>".encode()),
    "moved": replying("302 Found", b"", f"Location: https://x.example/?token={KEYS['query']}"),
    "not HTTP": lambda peer: peer.send(f"{QUOTED}\r\n\r\n".encode()),
    "hung up": hang_up,
    "silent": say_nothing,
    "silent in the middle": fall_silent,
    "cut": streaming(f": {QUOTED}\n\n", end=b""),
    "no JSON": streaming(f"data: {QUOTED}\n\n"),
    "JSON of another kind": streaming(f'data: {{"choices":{{"a":"{QUOTED}"}}}}\n\n'),
    "an error in the stream": streaming(f'data: {{"error":{{"message":"{QUOTED}"}}}}\n\n'),
    "a page": streaming(f"<html>{QUOTED}</html>"),
    "a text": streaming(QUOTED),
}


@any_format
@pytest.mark.parametrize("script", BREAKAGES.values(), ids=BREAKAGES)
async def test_a_failed_request_shows_no_key(
    asked: Asked, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(script) as base_url:
        assert_nothing_shown(await failure_of(asked(endpoint(base_url))), caplog.text)


@any_format
async def test_a_service_that_cannot_be_reached_is_told_of_without_keys(asked: Asked) -> None:
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    proxy = f"http://user:{KEYS['proxy']}@127.0.0.1:{port}"
    for settings in ({}, {"proxy": proxy}):
        provider = asked(endpoint(f"http://127.0.0.1:{port}/v1", **settings))
        assert_nothing_shown(await failure_of(provider))


@any_format
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_told_of_without_its_password(
    asked: Asked, scheme: str
) -> None:
    async def refuse(peer: Peer) -> None:
        while await peer.stream.receive_some(65536):
            quoted = f"{QUOTED} and {KEYS['proxy']}"
            await peer.reply("407 Who", f"not {quoted}".encode(), f"X-Said: {quoted}")

    async with serving(refuse) as url:
        proxy = url.removesuffix("/v1").replace("//", f"//user:{KEYS['proxy']}@")
        provider = asked(endpoint(f"{scheme}://model.example/v1", proxy=proxy))
        error = await failure_of(provider)
        assert "407" in str(error)
        assert_nothing_shown(error)


@any_format
@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "canary\nline"},
        {"extra_headers": {"X-Secret": "canary\r\nline"}},
        {"extra_headers": {"canary é": "x"}},
        {"base_url": "https://user:canary@model.example"},
        {"proxy": "socks5://user:canary@127.0.0.1:1"},
        {"proxy": "http://user:canary@[127.0.0.1:1"},
        {"ca_file": "/nowhere.pem"},
    ],
    ids=str,
)
def test_an_endpoint_that_is_refused_shows_no_key(asked: Asked, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(endpoint(**{"base_url": "https://model.example/v1", **settings}))
    if "é" not in str(settings):  # the name of a header is no secret
        assert_nothing_shown(caught.value)


def configured(**provider: Any) -> dict[str, Any]:
    return {
        "agents": {"defaults": {"model": "acme/m"}},
        "providers": {
            "acme": {"apiBase": "https://model.example/v1", "apiKey": KEYS["api_key"], **provider}
        },
    }


MISTAKES: dict[str, Callable[[], dict[str, Any]]] = {
    "a wrong type": lambda: {**configured(), "api": {"port": "canary"}},
    "a wrong proxy": lambda: configured(proxy="canary"),
    "an unset variable": lambda: configured(extraHeaders={"X-Secret": "${NOT_SET}canary"}),
    "twice": lambda: configured(api_key="canary"),
    "a key that cannot be sent": lambda: configured(apiKey="canary é"),
    "a header that cannot be sent": lambda: configured(extraHeaders={"X-Secret": "canary\n"}),
    "no provider": lambda: {**configured(), "agents": {"defaults": {"model": "nobody/m"}}},
    "no preset": lambda: {**configured(), "agents": {"defaults": {"modelPreset": "none"}}},
    "a base that is none": lambda: configured(apiBase="http://user:canary@:0"),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_configuration_that_is_refused_shows_no_key(
    mistake: Callable[[], dict[str, Any]],
) -> None:
    env = {"OPENAI_API_KEY": KEYS["api_key"]}
    with pytest.raises(NanobotError) as caught:
        select_model(config_from_tree(mistake(), path=None, env=env), env=env)
    assert_nothing_shown(caught.value)
