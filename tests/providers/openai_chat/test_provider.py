"""The provider against a real loopback server: what it sends, what it makes of every answer, what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from nanobot.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
    UsageError,
)
from nanobot.messages import (
    Delta,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
    UserMessage,
)
from nanobot.providers import Endpoint, ModelRequest, Provider, Timeouts
from nanobot.providers._pool import ConnectionPool, PoolStatistics
from nanobot.providers.openai_chat import OpenAIChatProvider
from tests.providers.loopback import MockPool

KEY = "sk-canary-0123456789"
REQUEST = ModelRequest("m", [UserMessage("hi")])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def http_chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def event(content: str | None = None, reason: str | None = None, **more: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"choices": [choice], **more}).encode()


DONE = b"data: [DONE]\n\n"


class Peer:
    """One accepted connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.send = stream.send_all

    async def request(self) -> tuple[str, dict[str, str], Any]:
        """Return the target, the headers and the decoded body of the next request."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = await self.stream.receive_some(65536)
            if not more:
                raise trio.BrokenResourceError
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        while len(body) < int(headers["content-length"]):
            body += await self.stream.receive_some(65536)
        return first.split(" ")[1], headers, json.loads(body)

    async def stream_events(self, *events: bytes) -> None:
        await self.send(HEAD + b"".join(map(http_chunk, events)))

    async def reply(self, status: str, body: bytes, *headers: str) -> None:
        lines = "".join(f"{header}\r\n" for header in headers)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        await self.send(head.encode() + body)

    async def client_hung_up(self) -> None:
        try:
            assert await self.stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            pass  # a reset is a hang-up with unread bytes


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """Run `script` once per connection; yields the base URL."""

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await script(Peer(stream))
        except trio.BrokenResourceError:
            pass  # the client hung up, as some tests make it

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, serve, [listener]))
            yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1"
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def asking(
    script: Script, **settings: Any
) -> AsyncIterator[tuple[OpenAIChatProvider, ConnectionPool]]:
    """A provider whose service follows `script`; in the end no connection may be in use."""
    async with serving(script) as base_url:
        pool = ConnectionPool()
        endpoint = Endpoint(name="acme", base_url=base_url, api_key=KEY, **settings)
        provider = OpenAIChatProvider(endpoint, pool=pool)
        yield provider, pool
        await provider.aclose()
        statistics = pool.statistics()
        assert statistics.open == statistics.idle
        await pool.aclose()


def answering(*events: bytes, end: bytes = END) -> Script:
    """Answer every request on a connection with the same events."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.stream_events(*events)
            await peer.send(end)

    return script


def replying(status: str, body: bytes, *headers: str) -> Script:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.reply(status, body, *headers)

    return script


async def ask(provider: Provider, request: ModelRequest = REQUEST) -> list[Delta]:
    return [delta async for batch in await provider.open(request) for delta in batch]


async def ask_until_it_fails(provider: Provider) -> tuple[list[Delta], ProviderError]:
    """Return what was delivered before the error, and the error."""
    deltas: list[Delta] = []
    stream = await provider.open(REQUEST)
    with pytest.raises(ProviderError) as caught:
        async for batch in stream:
            assert batch
            deltas += batch
    with pytest.raises(type(caught.value)):
        await anext(stream)  # it does not end normally after all
    await stream.aclose()
    assert caught.value.provider == "acme"
    assert "canary" not in f"{caught.value} {vars(caught.value)}"
    return deltas, caught.value


# What is sent ---------------------------------------------------------------------------------


async def test_the_request_carries_key_body_and_configured_extras() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.stream_events(event("ok", "stop"), DONE)
        await peer.send(END)

    async with asking(
        script,
        extra_headers={
            "X-Title": "mine",
            "Accept": "theirs",
            "Host": "forged",
            "Content-Length": "1",
        },
        extra_query={"api-version": "2026-01 preview"},
        extra_body={"top_k": 1, "stream_options": {"x": 2}},
        quirks=frozenset({"max_completion_tokens"}),
    ) as (provider, _):
        assert isinstance(provider.name, str)
        await ask(provider, ModelRequest("m", [UserMessage("hi")], max_tokens=7))
    target, headers, body = seen[0]
    assert target == "/v1/chat/completions?api-version=2026-01+preview"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "theirs"
    assert headers["x-title"] == "mine"
    assert headers["host"].startswith("127.0.0.1:")
    assert headers["accept-encoding"] == "identity"
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True, "x": 2},
        "top_k": 1,
    }


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1/chat/completions"),
        ("https://api.example.com/v1/", "https://api.example.com/v1/chat/completions"),
        ("https://api.example.com", "https://api.example.com/chat/completions"),
        (" https://x.example/v1/chat/completions ", "https://x.example/v1/chat/completions"),
        ("https://x.example/d?v=1", "https://x.example/d/chat/completions?v=1&k=2"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
    ],
)
async def test_the_base_url_is_joined_once(base_url: str, url: str) -> None:
    seen = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        assert "authorization" not in request.headers  # no key, no credentials
        return httpx.Response(200, content=event("ok", "stop"))

    query = {"k": "2"} if "?" in base_url else {}
    endpoint = Endpoint(name="acme", base_url=base_url, extra_query=query)
    provider = OpenAIChatProvider(endpoint, pool=MockPool(respond))
    assert (await ask(provider))[-1] == Finished("stop")
    assert seen == [url]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "api.example.com"}, "providers.acme.apiBase must be an http"),
        ({"base_url": "ftp://x"}, "providers.acme.apiBase"),
        ({"base_url": "http://["}, "providers.acme.apiBase"),
        ({"base_url": "http://a b/"}, "providers.acme.apiBase"),
        ({"base_url": "http://x:99999/"}, "providers.acme.apiBase"),
        ({"base_url": "https://u:canary@x.example"}, "user name or password"),
        ({"api_key": "canary\nline"}, "providers.acme.apiKey contains a line break"),
        ({"api_key": "canary\u201d"}, "providers.acme.apiKey contains"),
        ({"extra_headers": {"X-A": "canary\r\nX-B: 1"}}, "providers.acme.extraHeaders.X-A"),
        ({"extra_headers": {"X A": "1"}}, "'X A' is not a header name"),
        ({"proxy": "socks5://u:canary@h:1"}, "providers.acme.proxy: .*not supported"),
    ],
    ids=str,
)
def test_an_endpoint_that_cannot_work_is_refused_by_the_name_of_the_setting(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        OpenAIChatProvider(
            Endpoint(**{"name": "acme", "base_url": "https://x.example", **settings})
        )
    assert "canary" not in str(caught.value)


# Answers --------------------------------------------------------------------------------------


async def test_an_answer_is_streamed_and_the_connection_kept() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    script = answering(event("Hel"), event("lo"), event(reason="stop"), event(usage=usage), DONE)
    async with asking(script) as (provider, pool):
        for _ in range(3):
            assert await ask(provider) == [
                TextDelta("Hel"),
                TextDelta("lo"),
                UsageDelta(Usage(1, 2, 3)),
                Finished("stop"),
            ]
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=1, waiting=0)


async def test_each_batch_is_what_one_network_read_brought() -> None:
    more = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"), event("b"))
        await more.wait()
        await peer.send(http_chunk(event("c") + event(reason="stop") + DONE) + END)

    async with asking(script) as (provider, _):
        stream = await provider.open(REQUEST)
        assert await anext(stream) == [TextDelta("a"), TextDelta("b")]
        more.set()
        assert await anext(stream) == [TextDelta("c"), Finished("stop")]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_bytes_that_drip_in_one_by_one_make_the_same_answer() -> None:
    whole = b"\xef\xbb\xbf: hello\r\n\r\n" + event("Grüße 🌍") + event(reason="stop") + DONE

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD)
        for byte in whole:
            await peer.send(http_chunk(bytes([byte])))
        await peer.send(END)

    async with asking(script) as (provider, pool):
        assert await ask(provider) == [TextDelta("Grüße 🌍"), Finished("stop")]
        assert pool.statistics().idle == 1


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "text/event-stream", "text/plain", ""]
)
async def test_a_whole_answer_as_json_is_accepted_under_any_label(content_type: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {
        "role": "assistant",
        "content": "Hi",
        "reasoning_content": "hm",
        "tool_calls": [call],
    }
    body = {
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    headers = [f"Content-Type: {content_type}"] if content_type else []
    script = replying("200 OK", b"\n " + json.dumps(body, indent=1).encode(), *headers)
    async with asking(script) as (provider, pool):
        assert await ask(provider) == [
            ReasoningDelta("hm"),
            TextDelta("Hi"),
            ToolCallDelta(0, "c1", "f", '{"a":1}'),
            UsageDelta(Usage(1, 2, 3)),
            Finished("tool_calls"),
        ]
        assert pool.statistics().idle == 1


async def test_an_event_stream_labelled_as_json_is_still_one() -> None:
    script = replying("200 OK", event("a") + event(reason="stop"), "Content-Type: application/json")
    async with asking(script) as (provider, _):
        assert await ask(provider) == [TextDelta("a"), Finished("stop")]


@pytest.mark.parametrize(
    "events",
    [
        [event("a"), event(reason="length")],
        [event("a"), event(reason="length").rstrip()],
        [event("a"), event(reason="length"), DONE.rstrip()],
        [event("a"), event(reason="length"), b"data: {cut"],
    ],
    ids=["no DONE", "no last blank line", "DONE without line end", "cut after the finish reason"],
)
async def test_an_answer_that_gave_its_finish_reason_is_complete(events: list[bytes]) -> None:
    async with asking(answering(*events)) as (provider, pool):
        assert await ask(provider) == [TextDelta("a"), Finished("length")]
        assert pool.statistics().idle == 1


async def test_an_answer_that_gave_its_finish_reason_survives_a_broken_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"), event(reason="stop"))

    async with asking(script) as (provider, pool):
        assert await ask(provider) == [TextDelta("a"), Finished("stop")]
        assert pool.statistics().open == 0


async def test_a_server_that_never_ends_the_body_after_done_costs_a_connection_and_no_time() -> (
    None
):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a", "stop"), DONE)
        await peer.client_hung_up()

    async with asking(script) as (provider, pool):
        assert await ask(provider) == [TextDelta("a"), Finished("stop")]
        assert pool.statistics().open == 0


# What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (
            "401 Unauthorized",
            b'{"error":{"message":"bad key sk-canary-0123456789"}}',
            [],
            AuthenticationFailed,
        ),
        ("404 Not Found", b"<html><title>404</title></html>", [], RequestRejected),
        ("429 Too Many", b'{"error":"slow"}', ["Retry-After: 7"], RateLimited),
        ("500 Oops", b"", [], ServiceUnavailable),
        ("302 Found", b"", ["Location: https://else.example/"], RequestRejected),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_refusal_has_its_class_and_the_connection_is_kept(
    status: str, body: bytes, headers: list[str], kind: type[ProviderError]
) -> None:
    async with asking(replying(status, body, *headers)) as (provider, pool):
        for _ in range(2):
            with pytest.raises(kind) as caught:
                await provider.open(REQUEST)
            assert "canary" not in f"{caught.value} {vars(caught.value)}"
        assert caught.value.status == int(status[:3])
        assert caught.value.retry_after_s == (7.0 if headers == ["Retry-After: 7"] else None)
        assert pool.statistics() == PoolStatistics(open=1, idle=1, created=1, waiting=0)


async def test_a_refusal_whose_explanation_hangs_is_reported_all_the_same(
    mock_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\nwe are bu")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(6.0)
        await peer.client_hung_up()

    async with asking(script) as (provider, _):
        with pytest.raises(ServiceUnavailable, match="we are bu"):
            await provider.open(REQUEST)


async def test_an_endless_explanation_is_not_read_to_its_end(
    mock_clock: trio.testing.MockClock,
) -> None:
    assert mock_clock.rate == 0  # no limit of time can end it

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await peer.send(http_chunk(b"why " * 4096))

    async with asking(script) as (provider, pool):
        with pytest.raises(ServiceUnavailable, match="why why"):
            await provider.open(REQUEST)
        assert pool.statistics().open == 0


@pytest.mark.parametrize(
    ("events", "end", "kind", "said"),
    [
        ([event("a"), event("b")], b"", ConnectionFailed, "closed the connection before the end"),
        ([event("a"), event("b")], END, MalformedStream, "ended its answer after 2 events"),
        (
            [event("a"), event("b"), event("c")[:20]],
            END,
            MalformedStream,
            "middle of an event, after 2",
        ),
        (
            [event("a"), event("b"), b"data: {nonsense}\n\n"],
            END,
            MalformedStream,
            "not a chat completion",
        ),
        (
            [event("a"), event("b"), b'data: {"error":{"message":"m","code":429}}\n\n'],
            END,
            RateLimited,
            "m",
        ),
        ([event("a"), event("b"), b"nonsense"], b"not a chunk\r\n", ConnectionFailed, ""),
    ],
    ids=["cut", "no reason", "cut in an event", "invalid JSON", "error event", "not HTTP"],
)
async def test_what_was_said_before_an_error_is_delivered_first(
    events: list[bytes], end: bytes, kind: type[ProviderError], said: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(*events)
        await peer.send(end)

    async with asking(script) as (provider, _):
        deltas, error = await ask_until_it_fails(provider)
        assert deltas == [TextDelta("a"), TextDelta("b")]
        assert type(error) is kind
        assert said in str(error)


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "text/html", "web page.*Sign in"),
        (b"  <html>", "text/event-stream", "web page"),
        (b"", "text/event-stream", "without a single event"),
        (b": ping\n\n", "text/event-stream", "without a single event"),
        (
            b"Internal error",
            "text/plain",
            "without a single event: 'Internal error'|middle of an event",
        ),
        (b'{"cho', "application/json", "not a chat completion"),
        (b'{"id": 1}', "application/json", "not a chat completion"),
        (b"[1]", "application/json", "not a chat completion"),
        (b"\n\n", "", "without a single event"),
        (b'{"error":{"message":"the tail"}}', "application/json", "the tail"),
    ],
    ids=range(10),
)
async def test_a_200_that_is_no_answer_is_an_error_that_shows_what_came(
    body: bytes, content_type: str, said: str
) -> None:
    script = replying("200 OK", body, f"Content-Type: {content_type}")
    async with asking(script) as (provider, _):
        deltas, error = await ask_until_it_fails(provider)
        assert deltas == []
        assert error.retryable
        with pytest.raises(type(error), match=said):
            raise error


async def test_a_line_of_ten_megabytes_ends_the_answer_and_not_the_process() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"))
        await peer.send(http_chunk(b"data: " + b"x" * 10_000_000))

    async with asking(script) as (provider, pool):
        deltas, error = await ask_until_it_fails(provider)
        assert deltas == [TextDelta("a")]
        assert "single event of more than 4 MiB" in str(error)
        assert pool.statistics().open == 0


async def test_a_whole_answer_of_ten_megabytes_is_refused() -> None:
    script = replying("200 OK", b'{"x":"' + b"x" * 10_000_000, "Content-Type: application/json")
    async with asking(script) as (provider, _):
        _, error = await ask_until_it_fails(provider)
        assert "whole answer of more than 4 MiB" in str(error)


async def test_a_compressed_answer_is_named() -> None:
    script = replying("200 OK", b"\x1f\x8b", "Content-Encoding: gzip")
    async with asking(script) as (provider, _):
        with pytest.raises(MalformedStream, match="gzip"):
            await provider.open(REQUEST)


async def test_a_service_that_is_not_there_is_named_with_its_address() -> None:
    async with serving(answering()) as base_url:
        pass
    provider = OpenAIChatProvider(Endpoint(name="acme", base_url=base_url, api_key=KEY))
    with pytest.raises(ConnectionFailed, match="Connection refused") as caught:
        await provider.open(REQUEST)
    assert f"{base_url}/chat/completions" in str(caught.value)
    await provider.aclose()


async def test_a_service_that_hangs_up_without_answering_is_named() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with asking(script) as (provider, _):
        with pytest.raises(ConnectionFailed, match=r"acme gave no answer: .*hung up"):
            await provider.open(REQUEST)


# Limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (None, "first_token"),
        ([], "first_token"),
        ([event("a")], "between_tokens"),
        ([event("a"), b": ping\n\n"], "between_tokens"),
    ],
    ids=["no head", "no event", "one event", "a comment"],
)
async def test_each_silence_has_its_limit(sent: list[bytes] | None, phase: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if sent is not None:
            await peer.stream_events(*sent)
        await peer.client_hung_up()

    limits = {"first_token_s": 0.1, "between_tokens_s": 60.0}
    if phase == "between_tokens":
        limits = {"first_token_s": 60.0, "between_tokens_s": 0.1}
    async with asking(script, timeouts=Timeouts(**limits)) as (provider, pool):
        with pytest.raises(ProviderTimeout) as caught:
            await ask(provider)
        assert (caught.value.phase, caught.value.limit_s) == (phase, 0.1)
        assert pool.statistics().open == 0


@pytest.mark.parametrize("headless", [True, False], ids=["before the head", "in the body"])
async def test_a_server_that_drips_forever_meets_the_limit_of_the_whole_request(
    headless: bool,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if not headless:
            await peer.stream_events(event("a"))
        while True:
            await trio.sleep(0.01)
            await peer.send(b"" if headless else http_chunk(b": ping\n\n"))

    async with asking(script, timeouts=Timeouts(request_s=0.1)) as (provider, pool):
        with pytest.raises(ProviderTimeout) as caught:
            await ask(provider)
        assert (caught.value.phase, caught.value.limit_s) == ("request", 0.1)
        assert pool.statistics().open == 0


async def test_a_server_that_does_not_complete_a_connection_meets_the_connect_limit() -> None:
    async def never_speak_tls(peer: Peer) -> None:
        await trio.sleep_forever()

    async with serving(never_speak_tls) as base_url:
        endpoint = Endpoint(
            name="acme",
            base_url=base_url.replace("http:", "https:"),
            timeouts=Timeouts(connect_s=0.1),
        )
        provider = OpenAIChatProvider(endpoint)
        with pytest.raises(ProviderTimeout) as caught:
            await provider.open(REQUEST)
        assert (caught.value.phase, caught.value.limit_s) == ("connect", 0.1)
        await provider.aclose()


async def test_the_limit_for_the_first_token_does_not_bound_later_silences(
    mock_clock: trio.testing.MockClock,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(5.0)
        await trio.testing.wait_all_tasks_blocked()  # whoever minds the time has noticed
        await peer.send(http_chunk(event("b", "stop") + DONE) + END)

    limits = Timeouts(first_token_s=1.0, between_tokens_s=20.0)
    async with asking(script, timeouts=limits) as (provider, _):
        assert await ask(provider) == [TextDelta("a"), TextDelta("b"), Finished("stop")]


async def test_waiting_for_a_consumer_is_not_the_service_being_silent() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"))
        await peer.send(http_chunk(event("b", "stop") + DONE) + END)

    async with asking(script, timeouts=Timeouts(between_tokens_s=0.05)) as (provider, _):
        deltas: list[Delta] = []
        async for batch in await provider.open(REQUEST):
            await trio.sleep(0.1)
            deltas += batch
        assert deltas == [TextDelta("a"), TextDelta("b"), Finished("stop")]


# Letting go -----------------------------------------------------------------------------------


async def test_closing_halfway_closes_the_connection_and_does_not_drain_it() -> None:
    hung_up = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"))
        await peer.client_hung_up()
        hung_up.set()

    async with asking(script) as (provider, pool):
        stream = await provider.open(REQUEST)
        await anext(stream)
        await stream.aclose()
        await stream.aclose()
        await hung_up.wait()
        assert pool.statistics().open == 0
        with pytest.raises(ConnectionFailed):
            await anext(stream)


@pytest.mark.parametrize("during", ["open", "iteration", "aclose"])
async def test_a_cancellation_anywhere_closes_the_connection(during: str) -> None:
    asked, hung_up = trio.Event(), trio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if during != "open":
            await peer.stream_events(event("a"))
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

    async with asking(script) as (provider, pool):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, provider)
            await asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await hung_up.wait()
        assert pool.statistics().open == 0


async def test_a_closed_provider_refuses_and_ends_what_is_open() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.stream_events(event("a"))
        await peer.client_hung_up()

    async with serving(script) as base_url:
        provider = OpenAIChatProvider(Endpoint(name="acme", base_url=base_url))
        stream = await provider.open(REQUEST)
        await anext(stream)
        await provider.aclose()
        await provider.aclose()
        with pytest.raises(ConnectionFailed, match="closed"):
            await anext(stream)
        with pytest.raises(UsageError, match="'acme' is closed"):
            await provider.open(REQUEST)


async def test_a_transport_that_was_handed_in_stays_open() -> None:
    async with asking(answering(event("a", "stop"), DONE)) as (provider, pool):
        await ask(provider)
        await provider.aclose()
        assert pool.statistics().idle == 1
