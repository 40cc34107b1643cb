"""What a configuration says of a provider and a model, seen where it has to arrive: in the request, over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanobot import RunResult
from nanobot.errors import ConfigError
from nanobot.testing import RecordedRequest, scripted_server
from tests.providers.forwarding import AUTHORITY, forwarding_proxy, tls_front
from tests.sdk.bots import KEY, make_bot


async def asked(
    tmp_path: Path, *, options: dict[str, Any] | None = None, **bot: Any
) -> tuple[RecordedRequest, RunResult]:
    """The one request of a run, and the run's result."""
    async with scripted_server(["fine"]) as server:
        async with make_bot(tmp_path, server.base_url, **bot) as made:
            result = await made.run("hi", **options or {})
        (request,) = server.requests
    assert result.content == "fine"
    return request, result


# Extra headers, query and body ----------------------------------------------------------------


async def test_extra_headers_query_and_body_reach_the_service_and_win(tmp_path: Path) -> None:
    settings = {
        "extraHeaders": {"X-Team": "blue", "User-Agent": "mine/1", "Content-Length": "1"},
        "extraQuery": {"api-version": "2026-01-01", "a b": "ü&="},
        "extraBody": {"top_k": 3, "temperature": 0.9, "stream_options": {"more": True}},
    }
    request, _ = await asked(tmp_path, provider_settings=settings)
    assert request.path == "/v1/chat/completions?api-version=2026-01-01&a+b=%C3%BC%26%3D"
    assert request.headers["x-team"] == "blue"
    assert request.headers["user-agent"] == "mine/1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert int(request.headers["content-length"]) == len(request.body)
    assert request.json["top_k"] == 3
    assert request.json["temperature"] == 0.9
    assert request.json["stream_options"] == {"include_usage": True, "more": True}


# Models, presets and overrides ----------------------------------------------------------------

PRESETS = {
    "deep": {
        "model": "scripted/thinker",
        "maxTokens": 999,
        "temperature": 1.5,
        "reasoningEffort": "high",
        "contextWindowTokens": 50_000,
    },
    "cool": {"model": "scripted/cool", "temperature": None},
}


def sampling(request: RecordedRequest) -> dict[str, Any]:
    names = ("model", "max_tokens", "temperature", "reasoning_effort")
    return {name: request.json[name] for name in names if name in request.json}


async def test_the_configured_sampling_is_asked_for(tmp_path: Path) -> None:
    request, result = await asked(tmp_path, temperature=0.7, reasoningEffort="low", maxTokens=123)
    expected = {"model": "m", "max_tokens": 123, "temperature": 0.7, "reasoning_effort": "low"}
    assert sampling(request) == expected
    assert (result.metadata["provider"], result.metadata["model"]) == ("scripted", "m")


async def test_without_a_temperature_and_an_effort_the_service_decides(tmp_path: Path) -> None:
    request, _ = await asked(tmp_path, temperature=None)
    assert sampling(request) == {"model": "m", "max_tokens": 8192}


@pytest.mark.parametrize("how", ["configured", "per run"])
async def test_a_preset_brings_all_that_it_says(tmp_path: Path, how: str) -> None:
    configured = {"modelPreset": "deep"} if how == "configured" else {}
    request, _ = await asked(
        tmp_path,
        options={} if configured else {"model_preset": "deep"},
        presets=PRESETS,
        temperature=0.2,
        **configured,
    )
    assert sampling(request) == {
        "model": "thinker",
        "max_tokens": 999,
        "temperature": 1.5,
        "reasoning_effort": "high",
    }


async def test_an_override_is_for_one_run_and_leaves_the_others_alone(tmp_path: Path) -> None:
    async with scripted_server(["1", "2", "3", "4", "5"]) as server:
        async with make_bot(tmp_path, server.base_url, presets=PRESETS, temperature=0.3) as bot:
            results = [
                await bot.run("hi"),
                await bot.run("hi", model_preset="cool"),
                await bot.run("hi", model="scripted/other"),
                await bot.run("hi", model_preset="default"),
                await bot.run("hi"),
            ]
            assert bot.runtime.model == "scripted/m"
        models = [sampling(request) for request in server.requests]
    usual = {"model": "m", "max_tokens": 8192, "temperature": 0.3}
    other = {**usual, "model": "other"}  # a model that is named keeps the configured sampling
    assert models == [usual, {"model": "cool", "max_tokens": 8192}, other, usual, usual]
    assert [result.metadata["model"] for result in results] == [
        *("m", "cool", "other", "m", "m"),
    ]


# Certificates and proxies ---------------------------------------------------------------------


async def run_over_tls(tmp_path: Path, **settings: Any) -> RunResult:
    async with scripted_server(["fine"]) as server, tls_front(server.port) as front:
        base_url = f"https://localhost:{front}/v1"
        async with make_bot(tmp_path, base_url, provider_settings=settings) as bot:
            result = await bot.run("hi")
        assert server.statistics().requests == (result.error is None)
    return result


async def test_an_authority_of_ones_own_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    result = await run_over_tls(tmp_path, caFile=str(AUTHORITY))
    assert (result.content, result.error) == ("fine", None)


async def test_without_it_nothing_is_sent(tmp_path: Path) -> None:
    result = await run_over_tls(tmp_path)
    assert result.stop_reason == "error"
    assert "certificate not trusted" in str(result.error)


async def test_an_authority_that_is_not_there_is_told_by_its_setting(tmp_path: Path) -> None:
    async with make_bot(
        tmp_path, "https://localhost:1/v1", provider_settings={"caFile": "/nowhere.pem"}
    ) as bot:
        with pytest.raises(ConfigError, match=r"providers\.scripted\.caFile: .*/nowhere\.pem"):
            await bot.run("hi")


async def test_a_tunnel_through_a_proxy_that_learns_nothing_but_the_address(
    tmp_path: Path,
) -> None:
    async with forwarding_proxy() as proxy:
        address = proxy.url.replace("//", "//me:p%40ss@")
        async with scripted_server(["fine", "again"]) as server, tls_front(server.port) as front:
            base_url = f"https://localhost:{front}/v1"
            settings = {"proxy": address, "caFile": str(AUTHORITY)}
            async with make_bot(tmp_path, base_url, provider_settings=settings) as bot:
                assert (await bot.run("hi")).content == "fine"
                assert (await bot.run("hi")).content == "again"
    (head,) = proxy.heads  # the tunnel is kept
    assert head.splitlines()[0] == f"CONNECT localhost:{front} HTTP/1.1"
    assert "proxy-authorization: basic bwu6cebzcw==" in head.lower()
    assert KEY not in head
    assert KEY.encode() not in proxy.seen
    assert all("proxy-authorization" not in request.headers for request in server.requests)


async def test_plain_http_is_forwarded_by_a_proxy(tmp_path: Path) -> None:
    async with forwarding_proxy() as proxy:
        request, _ = await asked(tmp_path, provider_settings={"proxy": proxy.url})
    (head,) = proxy.heads
    assert head.startswith(f"POST http://{request.headers['host']}/v1/chat/completions HTTP/1.1")
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_a_proxy_that_is_gone_is_not_gone_around(tmp_path: Path) -> None:
    async with forwarding_proxy() as proxy:
        address = proxy.url
    async with scripted_server([]) as server:
        settings = {"proxy": address}
        async with make_bot(tmp_path, server.base_url, provider_settings=settings) as bot:
            result = await bot.run("hi")
        assert server.statistics().connections == 0
    assert result.stop_reason == "error"
    assert "cannot connect to 127.0.0.1" in str(result.error)
