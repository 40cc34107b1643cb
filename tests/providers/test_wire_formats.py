"""What every wire format has in common: the same broken answers are the same errors, and nothing is left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from nanobot.config import config_from_tree
from nanobot.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    MalformedStream,
    OutOfCredit,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
    UsageError,
)
from nanobot.messages import Finished, TextDelta
from nanobot.providers import Endpoint, Provider, Timeouts
from nanobot.providers._pool import ConnectionPool, PoolStatistics
from nanobot.providers._select import select_model
from nanobot.providers.anthropic import AnthropicProvider
from nanobot.providers.openai_chat import OpenAIChatProvider
from nanobot.providers.openai_responses import OpenAIResponsesProvider
from nanobot.runtime._providers import Providers
from tests.providers.loopback import (
    END,
    HEAD,
    KEY,
    REQUEST,
    Peer,
    Script,
    answering,
    ask,
    ask_until_it_fails,
    http_chunk,
    named_event,
    replying,
    serving,
)


class Format(NamedTuple):
    """A wire format: its provider, the events of a short answer, and what it has for errors."""

    provider: type[OpenAIChatProvider | AnthropicProvider | OpenAIResponsesProvider]
    path: str
    opening: bytes
    text: tuple[bytes, bytes]  # "a" and "b"
    closing: tuple[bytes, ...]  # the finish reason comes in the first
    overloaded: bytes
    noun: str

    def __repr__(self) -> str:
        return self.provider.__name__


CHAT = Format(
    OpenAIChatProvider,
    "/v1/chat/completions",
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    (
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"b"}}]}\n\n',
    ),
    (
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ),
    b'data: {"error":{"message":"Overloaded","type":"overloaded_error"}}\n\n',
    "chat completion",
)
MESSAGES = Format(
    AnthropicProvider,
    "/v1/messages",
    named_event("message_start", message={"role": "assistant", "content": []})
    + named_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    (
        named_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}),
        named_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "b"}),
    ),
    (
        named_event("content_block_stop", index=0)
        + named_event("message_delta", delta={"stop_reason": "end_turn"}),
        named_event("message_stop"),
    ),
    named_event("error", error={"type": "overloaded_error", "message": "Overloaded"}),
    "message",
)
RESPONSES = Format(
    OpenAIResponsesProvider,
    "/v1/responses",
    named_event("response.created", response={"status": "in_progress"})
    + named_event("response.output_item.added", output_index=0, item={"type": "message"}),
    (
        named_event("response.output_text.delta", output_index=0, delta="a"),
        named_event("response.output_text.delta", output_index=0, delta="b"),
    ),
    (named_event("response.completed", response={"status": "completed"}), b""),
    named_event("error", code="server_error", message="Overloaded", param=None),
    "response",
)

any_format = pytest.mark.parametrize("spoken", [CHAT, MESSAGES, RESPONSES], ids=repr)


@asynccontextmanager
async def asking(
    spoken: Format, script: Script, **settings: Any
) -> AsyncIterator[tuple[Provider, ConnectionPool]]:
    """A provider whose service follows `script`; in the end no connection may be in use."""
    async with serving(script) as base_url:
        pool = ConnectionPool()
        endpoint = Endpoint(name="acme", base_url=base_url, api_key=KEY, **settings)
        provider = spoken.provider(endpoint, pool=pool)
        yield provider, pool
        await provider.aclose()
        statistics = pool.statistics()
        assert statistics.open == statistics.idle
        await pool.aclose()


def whole(spoken: Format) -> tuple[bytes, ...]:
    return (spoken.opening, *spoken.text, *filter(None, spoken.closing))


@any_format
async def test_an_answer_is_streamed_and_the_connection_kept(spoken: Format) -> None:
    async with asking(spoken, answering(*whole(spoken))) as (provider, pool):
        assert provider.name == "acme"
        for _ in range(3):
            assert await ask(provider) == [TextDelta("a"), TextDelta("b"), Finished("stop")]
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=1, waiting=0)


@any_format
async def test_each_batch_is_what_one_network_read_brought(spoken: Format) -> None:
    more = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(spoken.opening, *spoken.text)
        await more.wait()
        await peer.send(http_chunk(b"".join(spoken.closing)) + END)

    async with asking(spoken, script) as (provider, _):
        stream = await provider.open(REQUEST)
        assert await anext(stream) == [TextDelta("a"), TextDelta("b")]
        more.set()
        assert await anext(stream) == [Finished("stop")]
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


@any_format
async def test_bytes_that_drip_in_one_by_one_make_the_same_answer(spoken: Format) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        for byte in b"\xef\xbb\xbf: hello\r\n\r\n" + b"".join(whole(spoken)):
            await peer.send(http_chunk(bytes([byte])))
        await peer.send(END)

    async with asking(spoken, script) as (provider, pool):
        assert await ask(provider) == [TextDelta("a"), TextDelta("b"), Finished("stop")]
        assert pool.statistics().idle == 1


@any_format
async def test_an_answer_that_gave_its_finish_reason_survives_a_broken_connection(
    spoken: Format,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(spoken.opening, *spoken.text, spoken.closing[0])

    async with asking(spoken, script) as (provider, pool):
        assert (await ask(provider))[-1] == Finished("stop")
        assert pool.statistics().open == 0


@any_format
async def test_the_last_blank_line_may_be_missing(spoken: Format) -> None:
    events = b"".join(whole(spoken)).rstrip()
    async with asking(spoken, answering(events)) as (provider, _):
        assert (await ask(provider))[-1] == Finished("stop")


@any_format
@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        ("401 No", b'{"error":{"message":"bad sk-canary-0123456789"}}', [], AuthenticationFailed),
        ("400 No", b'{"error":{"message":"no such field"}}', [], RequestRejected),
        ("404 Not Found", b"<html><title>404</title></html>", [], RequestRejected),
        ("413 Large", b'{"error":{"type":"request_too_large"}}', [], RequestRejected),
        ("429 Too Many", b'{"error":"slow"}', ["Retry-After: 7"], RateLimited),
        ("429 Quota", b'{"error":{"code":"insufficient_quota"}}', [], OutOfCredit),
        ("500 Oops", b"", [], ServiceUnavailable),
        ("529 Overloaded", b'{"type":"error"}', [], ServiceUnavailable),
        ("302 Found", b"", ["Location: https://else.example/"], RequestRejected),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refusal_has_its_class_and_the_connection_is_kept(
    spoken: Format, status: str, body: bytes, headers: list[str], kind: type[ProviderError]
) -> None:
    async with asking(spoken, replying(status, body, *headers)) as (provider, pool):
        for _ in range(2):
            with pytest.raises(kind) as caught:
                await provider.open(REQUEST)
            assert type(caught.value) is kind
            assert "canary" not in f"{caught.value} {vars(caught.value)}"
        assert caught.value.status == int(status[:3])
        assert caught.value.retry_after_s == (7.0 if headers == ["Retry-After: 7"] else None)
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=1, waiting=0)


@any_format
@pytest.mark.parametrize(
    ("then", "end", "kind", "said"),
    [
        ("nothing", b"", ConnectionFailed, "closed the connection before the end"),
        ("nothing", END, MalformedStream, "without saying why"),
        ("half an event", END, MalformedStream, "middle of an event"),
        ("invalid JSON", END, MalformedStream, "not "),
        ("overloaded", END, ServiceUnavailable, "Overloaded"),
        ("no event", b"not a chunk\r\n", ConnectionFailed, ""),
    ],
    ids=["cut", "no reason", "cut in an event", "invalid JSON", "overloaded", "not HTTP"],
)
async def test_what_was_said_before_an_error_is_delivered_first(
    spoken: Format, then: str, end: bytes, kind: type[ProviderError], said: str
) -> None:
    rest = {
        "nothing": b"",
        "half an event": spoken.text[0][:-12],
        "invalid JSON": spoken.text[0].replace(b'"}', b"nonsense"),
        "overloaded": spoken.overloaded,
        "no event": b"nonsense",
    }[then]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(spoken.opening, *spoken.text, *([rest] if rest else []))
        await peer.send(end)

    async with asking(spoken, script) as (provider, _):
        deltas, error = await ask_until_it_fails(provider)
        assert deltas == [TextDelta("a"), TextDelta("b")]
        assert type(error) is kind
        assert said in str(error)


@any_format
@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "text/html", "web page.*Sign in"),
        (b"  <html>", "text/event-stream", "web page"),
        (b"", "text/event-stream", "without a single event"),
        (b": ping\n\n", "text/event-stream", "without a single event"),
        (b"\n\n", "", "without a single event"),
        (b"Internal error", "text/plain", "without a single event|middle of an event"),
        (b'{"cho', "application/json", "is not .*NOUN"),
        (b'{"id": 1}', "application/json", "is not .*NOUN"),
        (b"[1]", "application/json", "is not .*NOUN"),
        (b'{"error":{"message":"the tail"}}', "application/json", "the tail"),
        (b'{"detail":"the tail"}', "application/json", "the tail"),
        (b'{"message":"the tail"}', "application/json", "the tail"),
    ],
    ids=range(12),
)
async def test_a_200_that_is_no_answer_is_an_error_that_shows_what_came(
    spoken: Format, body: bytes, content_type: str, said: str
) -> None:
    script = replying("200 OK", body, f"Content-Type: {content_type}")
    async with asking(spoken, script) as (provider, _):
        deltas, error = await ask_until_it_fails(provider)
        assert deltas == []
        assert error.retryable
        with pytest.raises(type(error), match=said.replace("NOUN", spoken.noun)):
            raise error


@any_format
async def test_a_line_of_ten_megabytes_ends_the_answer_and_not_the_process(spoken: Format) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(spoken.opening, spoken.text[0])
        await peer.send(http_chunk(b"data: " + b"x" * 10_000_000))

    async with asking(spoken, script) as (provider, pool):
        deltas, error = await ask_until_it_fails(provider)
        assert deltas == [TextDelta("a")]
        assert "single event of more than 4 MiB" in str(error)
        assert pool.statistics().open == 0


@any_format
async def test_a_whole_answer_of_ten_megabytes_is_refused(spoken: Format) -> None:
    script = replying("200 OK", b'{"x":"' + b"x" * 10_000_000, "Content-Type: application/json")
    async with asking(spoken, script) as (provider, _):
        _, error = await ask_until_it_fails(provider)
        assert "whole answer of more than 4 MiB" in str(error)


@any_format
async def test_a_service_that_is_not_there_is_named_with_its_address(spoken: Format) -> None:
    async with serving(answering()) as base_url:
        pass
    provider = spoken.provider(Endpoint(name="acme", base_url=base_url, api_key=KEY))
    with pytest.raises(ConnectionFailed, match="Connection refused") as caught:
        await provider.open(REQUEST)
    assert base_url.removesuffix("/v1") + spoken.path in str(caught.value)
    await provider.aclose()


@any_format
@pytest.mark.parametrize(
    ("begun", "phase"),
    [(None, "first_token"), (0, "first_token"), (2, "between_tokens")],
    ids=["no head", "no event", "two events"],
)
async def test_each_silence_has_its_limit(spoken: Format, begun: int | None, phase: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if begun is not None:
            await peer.stream_events(*whole(spoken)[:begun])
        await peer.client_hung_up()

    limits = {"first_token_s": 0.1, "between_tokens_s": 60.0}
    if phase == "between_tokens":
        limits = {"first_token_s": 60.0, "between_tokens_s": 0.1}
    async with asking(spoken, script, timeouts=Timeouts(**limits)) as (provider, pool):
        with pytest.raises(ProviderTimeout) as caught:
            await ask(provider)
        assert (caught.value.phase, caught.value.limit_s) == (phase, 0.1)
        assert pool.statistics().open == 0


@any_format
async def test_a_server_that_drips_forever_meets_the_limit_of_the_whole_request(
    spoken: Format,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(spoken.opening)
        while True:
            await trio.sleep(0.01)
            await peer.send(http_chunk(b": still there\n\n"))

    async with asking(spoken, script, timeouts=Timeouts(request_s=0.1)) as (provider, pool):
        with pytest.raises(ProviderTimeout) as caught:
            await ask(provider)
        assert (caught.value.phase, caught.value.limit_s) == ("request", 0.1)
        assert pool.statistics().open == 0


@any_format
@pytest.mark.parametrize("during", ["open", "iteration", "aclose"])
async def test_a_cancellation_anywhere_closes_the_connection(spoken: Format, during: str) -> None:
    asked, hung_up = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if during != "open":
            await peer.stream_events(spoken.opening, spoken.text[0])
        asked.set()
        await peer.client_hung_up()
        hung_up.set()

    async def use(provider: Provider) -> None:
        stream = await provider.open(REQUEST)
        await anext(stream)
        if during == "aclose":
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.aclose()
            return
        await anext(stream)

    async with asking(spoken, script) as (provider, pool):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, provider)
            await asked.wait()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await hung_up.wait()
        assert pool.statistics().open == 0


@any_format
async def test_a_closed_provider_refuses_and_ends_what_is_open(spoken: Format) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(spoken.opening, spoken.text[0])
        await peer.client_hung_up()

    async with serving(script) as base_url:
        provider = spoken.provider(Endpoint(name="acme", base_url=base_url))
        stream = await provider.open(REQUEST)
        await anext(stream)
        await provider.aclose()
        await provider.aclose()
        with pytest.raises(ConnectionFailed, match="closed"):
            await anext(stream)
        with pytest.raises(UsageError, match="'acme' is closed"):
            await provider.open(REQUEST)


@any_format
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "api.example.com"}, "providers.acme.apiBase must be an http"),
        ({"base_url": "http://["}, "providers.acme.apiBase"),
        ({"base_url": "https://u:canary@x.example"}, "user name or password"),
        ({"api_key": "canary\nline"}, "providers.acme.apiKey contains a line break"),
        ({"proxy": "socks5://u:canary@h:1"}, "providers.acme.proxy: .*not supported"),
    ],
    ids=str,
)
def test_an_endpoint_that_cannot_work_is_refused_by_the_name_of_the_setting(
    spoken: Format, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        spoken.provider(Endpoint(**{"name": "acme", "base_url": "https://x.example", **settings}))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoken", "model", "settings"),
    [
        (CHAT, "openai/gpt-4.1", {}),
        (MESSAGES, "anthropic/claude-opus-4-5", {}),
        (RESPONSES, "openai/gpt-4.1", {"apiType": "responses"}),
    ],
    ids=repr,
)
async def test_a_configured_model_is_asked_in_its_providers_format(
    spoken: Format, model: str, settings: dict[str, str]
) -> None:
    targets: list[str] = []

    async def script(peer: Peer) -> None:
        target, _, _ = await peer.request()
        targets.append(target)
        await peer.stream_events(*whole(spoken))
        await peer.send(END)

    async with serving(script) as base_url:
        name = model.partition("/")[0]
        tree = {
            "agents": {"defaults": {"model": model}},
            "providers": {name: {"apiKey": KEY, "apiBase": base_url, **settings}},
        }
        selection = select_model(config_from_tree(tree, path=None, env={}), env={})
        providers = Providers()
        assert (await ask(providers.provider(selection)))[-1] == Finished("stop")
        await providers.aclose()
    assert targets == [spoken.path]
