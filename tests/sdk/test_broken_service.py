"""A model service that breaks in every way: the caller gets a result that says so, and the session goes on."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from nanobot import Nanobot, RunResult, StreamEvent
from nanobot.messages import AssistantMessage, ToolMessage, UserMessage
from nanobot.testing import (
    GZIP_RUBBISH,
    HTML_PAGE,
    Answer,
    Cut,
    HttpResponse,
    HugeLine,
    MalformedEvent,
    RawResponse,
    RecordedRequest,
    ServerItem,
    SlowDrip,
    Stall,
    no_leaks,
    scripted_server,
)
from tests.agent.stage import check_events
from tests.sdk.bots import KEY, NOTHING, make_bot, rest_of, shown

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

TEXT = "one two three four"

HALF_AN_EMOJI = (
    'data: {"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{"content":"\\ude00b\\udc00c "}}]}\n\n'
)
REPORTED = f'data: {{"error":{{"message":"overloaded, says {KEY}","code":503}}}}\n\n'


class Breakage(NamedTuple):
    """What the service does, and what the caller is told: the exception's class, the words, the part that came."""

    item: ServerItem
    exception: str
    says: str
    partial: str = ""
    retryable: bool = True
    status: int | None = None
    retry_after_s: float | None = None
    timeouts: Mapping[str, float] = {}


def cut(**how: Any) -> Answer:
    return Answer(TEXT, fault=Cut(2, **how))


def refused(status: int, says: str, exception: str, *, retryable: bool = True) -> Breakage:
    """A refusal whose body quotes our key, as some services do."""
    item = HttpResponse(status, {"error": {"message": f"Refused, {KEY}"}})
    return Breakage(
        item, exception, rf"HTTP {status}: Refused.*{says}", retryable=retryable, status=status
    )


BREAKAGES = {
    "cut in mid-line": Breakage(cut(at="mid_line"), "ConnectionFailed", "closed", "one two "),
    "cut in mid-token": Breakage(cut(at="mid_token"), "ConnectionFailed", "closed", "one two "),
    "cut in mid-event": Breakage(cut(at="mid_event"), "ConnectionFailed", "closed", "one two "),
    "cut between events": Breakage(cut(), "ConnectionFailed", "closed", "one two "),
    "body without an end": Breakage(
        cut(by="end_of_body"), "MalformedStream", "ended its answer", "one two "
    ),
    "body that ends in mid-line": Breakage(
        cut(at="mid_line", by="end_of_body"), "MalformedStream", "middle of an event", "one two "
    ),
    "reset": Breakage(cut(by="reset"), "ConnectionFailed", "reset", "one two "),
    "hang-up before the answer": Breakage(
        Answer(TEXT, fault=Cut(None)), "ConnectionFailed", "without answering"
    ),
    "reset before the answer": Breakage(
        Answer(TEXT, fault=Cut(None, by="reset")), "ConnectionFailed", "reset"
    ),
    "invalid JSON": Breakage(
        Answer(TEXT, fault=MalformedEvent(after_deltas=2)),
        "MalformedStream",
        "not a chat completion",
        "one two ",
    ),
    "an error in mid-stream": Breakage(
        Answer(TEXT, fault=MalformedEvent(REPORTED, after_deltas=2)),
        "ServiceUnavailable",
        "broke off its answer: overloaded",
        "one two ",
        status=503,
    ),
    "HTML instead of JSON": Breakage(HTML_PAGE, "MalformedStream", "check the base URL"),
    "JSON of another kind": Breakage(
        HttpResponse(200, {"hello": "world"}), "MalformedStream", "not a chat completion"
    ),
    "gzip rubbish": Breakage(GZIP_RUBBISH, "MalformedStream", "compressed", status=200),
    "no event at all": Breakage(
        HttpResponse(200, b"", {"content-type": "text/event-stream"}),
        "MalformedStream",
        "without a single event",
    ),
    "not HTTP": Breakage(
        RawResponse(b"\x16\x03\x01 this is not HTTP\r\n\r\n"), "ConnectionFailed", "gave no answer"
    ),
    "400": refused(400, "", "RequestRejected", retryable=False),
    "401": refused(401, "Check the API key", "AuthenticationFailed", retryable=False),
    "402": refused(402, "check its plan", "OutOfCredit", retryable=False),
    "403": refused(403, "Check the API key", "AuthenticationFailed", retryable=False),
    "404": refused(404, "Check the model name", "RequestRejected", retryable=False),
    "408": refused(408, "", "ServiceUnavailable"),
    "413": refused(413, "", "RequestRejected", retryable=False),
    "429": refused(429, "", "RateLimited"),
    "429 with Retry-After": Breakage(
        HttpResponse(429, headers={"retry-after": "0.1"}),
        "RateLimited",
        "HTTP 429",
        status=429,
        retry_after_s=0.1,
    ),
    "429 out of credit": Breakage(
        HttpResponse(429, {"error": {"message": "no more", "code": "insufficient_quota"}}),
        "OutOfCredit",
        "check its plan",
        retryable=False,
        status=429,
    ),
    "500": refused(500, "", "ServiceUnavailable"),
    "502 as a web page": Breakage(
        HttpResponse(502, f"<html><title>Bad gateway</title><p>{KEY}</p></html>"),
        "ServiceUnavailable",
        "Bad gateway",
        status=502,
    ),
    "a redirect": Breakage(
        HttpResponse(302, headers={"location": "http://example.com/x"}),
        "RequestRejected",
        "set the base URL",
        retryable=False,
        status=302,
    ),
    "silence": Breakage(
        Answer(TEXT, fault=Stall()),
        "ProviderTimeout",
        r"did not begin to answer within 0\.5 s",
        timeouts={"firstTokenS": 0.5},
    ),
    "silence in mid-answer": Breakage(
        Answer(TEXT, fault=Stall(2)),
        "ProviderTimeout",
        r"fell silent for 0\.5 s",
        "one two ",
        timeouts={"betweenTokensS": 0.5},
    ),
    "a body that drips": Breakage(
        Answer(TEXT, fault=SlowDrip(write_size=1, every_s=0.02)),
        "ProviderTimeout",
        r"did not finish its answer within 0\.8 s",
        timeouts={"requestS": 0.8},
    ),
    "a line of 10 MB": Breakage(
        Answer(TEXT, fault=HugeLine(10_000_000, after_deltas=2)),
        "MalformedStream",
        "more than 4 MiB",
        "one two ",
    ),
}


def check_failure(result: RunResult, breakage: Breakage) -> None:
    """The structured result that a failure of the service becomes."""
    assert (result.stop_reason, result.content) == ("error", breakage.partial)
    assert result.error is not None
    assert re.search(breakage.says, result.error), result.error
    assert "scripted" in result.error
    facts = {name: result.metadata[name] for name in ("exception_type", "retryable", "status")}
    assert facts == {
        "exception_type": breakage.exception,
        "retryable": breakage.retryable,
        "status": breakage.status,
    }
    assert result.metadata["retry_after_s"] == breakage.retry_after_s
    assert set(result.usage) >= {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert (result.usage["total_tokens"] > 0) or not breakage.partial
    assert KEY not in repr(result)


def check_story(events: list[StreamEvent], result: RunResult) -> None:
    """The same, as whoever read the stream learned it."""
    check_events(events)
    last = events[-1]
    assert (last.type, last.metadata["reason"]) == ("run.failed", "error")
    assert (last.content, last.usage, last.error) == (result.content, result.usage, result.error)
    assert last.metadata["exception_type"] == result.metadata["exception_type"]
    assert "".join(event.delta for event in events if event.type == "text.delta") == last.content
    assert KEY not in repr(events)


@contextmanager
def service_that(item: ServerItem, *, port: int = 0) -> Iterator[Any]:
    """A service that breaks as `item` says when it is asked to break, and else answers."""

    def answer(request: RecordedRequest) -> ServerItem:
        return item if "break" in request.user_texts[-1].splitlines()[0] else "fine now"

    with scripted_server(answer, port=port) as server:
        yield server


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_answer_is_a_result_with_an_error_and_the_session_goes_on(
    name: str, host: Host, tmp_path: Path
) -> None:
    breakage = BREAKAGES[name]

    async def story() -> None:
        bot = make_bot(tmp_path, server.base_url, timeouts=breakage.timeouts)
        async with no_leaks(), bot:
            run = await bot.run_streamed("break", session_key="one")
            events = [event async for event in run.stream_events()]
            result = await run.wait()
            check_failure(result, breakage)
            check_story(events, result)
            check_failure(await bot.run("break again", session_key="one"), breakage)
            after = await bot.run("and now?", session_key="one")
            assert (after.content, after.error) == ("fine now", None)
            partial = [breakage.partial] if breakage.partial else []
            assert words(server.requests[-1]) == [
                *("break", *partial),
                *("break again", *partial),
                "and now?",
            ]
            assert await rest_of(bot) == NOTHING
            assert KEY in server.requests[0].headers["authorization"]

    with service_that(breakage.item) as server:
        host.run(story)
        server.wait_until(lambda counts: counts.requests_in_flight == 0)


def words(request: RecordedRequest) -> list[str]:
    """What was said in a conversation that the model was shown, without what was added for the model."""
    return [
        str(message.content).splitlines()[0]
        for message in shown(request)
        if isinstance(message, (UserMessage, AssistantMessage))
    ]


def test_a_service_that_breaks_after_a_tool_ran_keeps_the_tools_result(
    host: Host, tmp_path: Path
) -> None:
    look = Answer("Let me look. ", tool_calls=[("list_dir", {"path": "."})])

    def answer(request: RecordedRequest) -> ServerItem:
        if "break" not in request.user_texts[-1]:
            return "fine now"
        return HttpResponse(500) if request.last_role == "tool" else look

    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            (bot.runtime.workspace / "plan.md").write_text("a plan")
            run = await bot.run_streamed("break", session_key="one")
            events = [event async for event in run.stream_events()]
            result = await run.wait()
            check_events(events)
            assert (result.stop_reason, result.tools_used) == ("error", ["list_dir"])
            assert (await bot.run("and now?", session_key="one")).content == "fine now"
            results = [m for m in shown(server.requests[-1]) if isinstance(m, ToolMessage)]
            assert ["plan.md" in str(message.content) for message in results] == [True]

    with scripted_server(answer) as server:
        host.run(story)


CALLS = {
    "an unknown name": ("fly_to_the_moon", "{}", "list_dir"),
    "invalid JSON": ("list_dir", '{"path": ', "not valid JSON|JSON"),
    "no object": ("list_dir", "[1, 2]", "object"),
    "an unknown field": ("list_dir", '{"path": ".", "depth_of_it": 3}', "depth_of_it"),
    "a wrong type": ("list_dir", '{"path": {"name": "."}}', "path"),
    "a value out of bounds": ("list_dir", '{"max_entries": -1}', "max_entries"),
    "a name that is none": ("no such\nname", "{}", "list_dir"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_tool_call_that_cannot_be_run_is_answered_and_the_model_may_try_again(
    name: str, host: Host, tmp_path: Path
) -> None:
    tool_name, arguments, says = CALLS[name]

    def answer(request: RecordedRequest) -> ServerItem:
        if request.last_role == "tool":
            return "I see."
        if "break" in request.user_texts[-1]:
            return Answer(tool_calls=[(tool_name, arguments)])
        return "fine now"

    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            run = await bot.run_streamed("break", session_key="one")
            events = [event async for event in run.stream_events()]
            result = await run.wait()
            check_events(events)
            assert (result.content, result.stop_reason) == ("I see.", "completed")
            assert result.tools_used == []
            [failed] = [event for event in events if event.type == "tool.failed"]
            assert failed.error
            assert re.search(says, failed.metadata["result"]), failed.metadata["result"]
            told = [m for m in shown(server.requests[1]) if isinstance(m, ToolMessage)]
            assert [message.content for message in told] == [failed.metadata["result"]]
            assert (await bot.run("and now?", session_key="one")).content == "fine now"
            shown(server.requests[-1])

    with scripted_server(answer) as server:
        host.run(story)


@pytest.mark.parametrize("text", ["", " \n\t "], ids=["nothing", "white space"])
def test_an_empty_answer_is_asked_for_again_and_then_reported(
    text: str, host: Host, tmp_path: Path
) -> None:
    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            result = await bot.run("break", session_key="one")
            assert (result.stop_reason, result.content, result.error) == (
                "empty_response",
                "",
                None,
            )
            assert result.usage["total_tokens"] == 15 * len(server.requests)
            assert 1 < len(server.requests) < 5
            assert (await bot.run("and now?", session_key="one")).content == "fine now"
            assert words(server.requests[-1]) == ["break", "and now?"]

    with scripted_server(
        lambda request: "fine now" if "and now" in request.user_texts[-1] else Answer(text)
    ) as server:
        host.run(story)


def test_thousands_of_tiny_deltas_arrive_each_once_and_in_order(host: Host, tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + number % 5000) for number in range(5000))

    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            deltas = [e.delta async for e in bot.stream("go on") if e.type == "text.delta"]
            assert len(deltas) == 5000
            assert "".join(deltas) == text

    with scripted_server([Answer(text, delta_size=1)]) as server:
        host.run(story)


def test_halves_of_characters_are_joined_or_replaced_and_never_stored(
    host: Host, tmp_path: Path
) -> None:
    broken = Answer(
        TEXT,
        fault=MalformedEvent(HALF_AN_EMOJI, after_deltas=2),
        tool_calls=[("list_dir", '{"path": "\\ud800"}')],
    )

    def answer(request: RecordedRequest) -> ServerItem:
        return (
            broken if request.last_role == "user" and len(request.user_texts) == 1 else "fine now"
        )

    async def story() -> None:
        async with make_bot(tmp_path, server.base_url) as bot:
            events = [event async for event in bot.stream("break", session_key="one")]
            check_events(events)
            assert events[-1].content == "fine now"
            said = "".join(e.delta for e in events if e.iteration == 0 and e.type == "text.delta")
            assert said == "one two a\U0001f600b\ufffdc three four"
            repr(events).encode()  # whatever a model sends, a program can print it
            assert (await bot.run("and now?", session_key="one")).content == "fine now"
            shown(server.requests[-1])

    with scripted_server(answer) as server:
        host.run(story)


# A service that is not there


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def fails(bot: Nanobot, says: str) -> None:
    """A run on session "one" fails to connect, and says what to check."""
    run = await bot.run_streamed("break", session_key="one")
    events = [event async for event in run.stream_events()]
    result = await run.wait()
    check_failure(result, Breakage("", "ConnectionFailed", says))
    check_story(events, result)


def test_a_service_that_is_down_is_named_and_found_when_it_comes_up(
    host: Host, tmp_path: Path
) -> None:
    port = free_port()

    async def story() -> None:
        async with make_bot(tmp_path, f"http://127.0.0.1:{port}/v1") as bot:
            await fails(bot, rf"refused.*Check that http://127\.0\.0\.1:{port}/v1/.* is up")
            with scripted_server(["fine now"], port=port) as server:
                assert (await bot.run("and now?", session_key="one")).content == "fine now"
                assert words(server.requests[-1]) == ["break", "and now?"]

    host.run(story)


def test_a_host_that_has_no_address_is_named(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        bot = make_bot(
            tmp_path,
            "http://no-such-host.invalid/v1",
            others={"good": server.base_url},
            timeouts={"connectS": 20},
        )
        async with bot:
            await fails(bot, r"no-such-host\.invalid.*Check that http://no-such-host\.invalid")
            after = await bot.run("and now?", session_key="one", model="good/m")
            assert after.content == "fine now"
            assert words(server.requests[-1]) == ["break", "and now?"]

    with scripted_server(["fine now"]) as server:
        host.run(story)


def test_tls_to_a_port_that_does_not_speak_it_is_named(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        bot = make_bot(
            tmp_path,
            f"https://127.0.0.1:{plain.getsockname()[1]}/v1",
            others={"good": server.base_url},
        )
        async with bot:
            await fails(bot, r"no secure connection.*Check that https://127\.0\.0\.1")
            after = await bot.run("and now?", session_key="one", model="good/m")
            assert after.content == "fine now"

    with scripted_server(["fine now"]) as server, plain_port() as plain:
        host.run(story)


@contextmanager
def plain_port() -> Iterator[socket.socket]:
    """A port that answers whatever comes with an HTTP error in plain text, as web servers do."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
