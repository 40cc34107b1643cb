"""Chat completions over real HTTP: who continues which session, what a stream is made of, how failures look."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.lowlevel

from nanobot import tool
from nanobot.agent import AgentHook, AgentHookContext
from nanobot.errors import AuthenticationFailed, RateLimited
from nanobot.messages import ImagePart, UserMessage
from nanobot.providers import ModelRequest
from nanobot.server import ServerSettings
from nanobot.testing import Answer, Cut, RecordedRequest, ScriptedProvider, Stall, scripted_server
from tests.server.servers import Served, chat, events_of, make_bot, serving

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PIXEL_URL = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"


async def test_a_single_message_is_answered_and_continues_its_session(tmp_path: Path) -> None:
    provider = ScriptedProvider(["Hello", "Again"])
    async with serving(make_bot(tmp_path, provider)) as served:
        first = await served.chat("one", session_id="s")
        assert first.status_code == 200
        completion = first.json()
        assert completion["object"] == "chat.completion"
        assert completion["model"] == "scripted/m"
        assert completion["choices"][0]["message"] == {
            "role": "assistant",
            "content": "Hello",
            "refusal": None,
        }
        assert completion["choices"][0]["finish_reason"] == "stop"
        assert completion["usage"]["total_tokens"] == 15
        await served.chat("two", session_id="s")
        session = served.bot.sessions.get("api:s")
        assert session is not None
        assert [message["content"] for message in session.messages] == [
            "one",
            "Hello",
            "two",
            "Again",
        ]
    assert "one" in said_to(provider.requests[1])


@pytest.mark.parametrize(
    ("fields", "header", "key"),
    [
        ({}, None, "api:default"),
        ({"user": "ann"}, None, "api:ann"),
        ({"user": "ann"}, "h", "api:h"),
        ({"user": "ann", "session_id": "b"}, "h", "api:b"),
    ],
)
async def test_the_body_names_the_session_before_the_header_before_the_user(
    tmp_path: Path, fields: dict[str, str], header: str | None, key: str
) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider(["Hello"]))) as served:
        headers = {} if header is None else {"x-session-id": header}
        answer = await served.client.post(
            "/v1/chat/completions", json=chat("Hi", **fields), headers=headers
        )
        assert answer.status_code == 200
        assert [info.key for info in served.bot.sessions.list()] == [key]


async def test_a_transcript_stands_on_its_own_and_leaves_no_trace(tmp_path: Path) -> None:
    provider = ScriptedProvider(["kept", "Paris has two million."])
    async with serving(make_bot(tmp_path, provider)) as served:
        await served.chat("something else", session_id="s")
        files = everything_below(tmp_path)
        answer = await served.chat(
            {"role": "system", "content": "Be brief."},
            "Capital of France?",
            {"role": "assistant", "content": "Paris."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "How many people?"},
                    {"type": "image_url", "image_url": {"url": PIXEL_URL}},
                ],
            },
            session_id="s",
        )
        assert answer.json()["choices"][0]["message"]["content"] == "Paris has two million."
        asked = said_to(provider.requests[1])
        assert "Capital of France?" in asked
        assert "something else" not in asked
        session = served.bot.sessions.get("api:s")
        assert session is not None
        assert len(session.messages) == 2
        assert len(served.bot.sessions.list()) == 1
        assert everything_below(tmp_path) == files


async def test_a_stream_has_a_role_deltas_a_reason_usage_and_an_end(tmp_path: Path) -> None:
    provider = ScriptedProvider([Answer(["Hel", "lo"], reasoning="They greet.")])
    async with serving(make_bot(tmp_path, provider)) as served:
        async with served.streamed("Hi", stream_options={"include_usage": True}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            *events, usage, done = events_of((await response.aread()).decode())
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 15
    assert all(event["usage"] is None for event in events)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""}
    reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert reasoning == "They greet."
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello"
    assert [event["choices"][0]["finish_reason"] for event in events][-1] == "stop"
    assert {event["id"] for event in events} == {usage["id"]}


async def test_usage_is_not_part_of_a_stream_that_did_not_ask_for_it(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider(["Hello"]))) as served:
        async with served.streamed("Hi") as response:
            *events, done = events_of((await response.aread()).decode())
    assert done == "[DONE]"
    assert all("usage" not in event for event in events)


async def test_stretches_of_text_around_a_tool_are_told_apart(tmp_path: Path) -> None:
    look = Answer("Let me look.", tool_calls=[("list_dir", {"path": "."})])
    async with serving(make_bot(tmp_path, ScriptedProvider([look, "Two files."]))) as served:
        async with served.streamed("What is here?") as response:
            events = events_of((await response.aread()).decode())
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
    assert text == "Let me look.\n\nTwo files."


async def test_a_stream_that_fails_tells_why_and_never_ends_cleanly(tmp_path: Path) -> None:
    provider = ScriptedProvider([Answer("one two three", fault=Cut(after_deltas=2))] * 9)
    async with serving(make_bot(tmp_path, provider)) as served:
        got = b""
        async with served.streamed("Hi") as response:
            assert response.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                async for piece in response.aiter_bytes():
                    got += piece
    *deltas, error = events_of(got.decode())
    assert deltas[1]["choices"][0]["delta"]["content"]
    assert error["error"]["code"].startswith("model_service")
    assert b"[DONE]" not in got


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_word_has_a_status_of_its_own(
    tmp_path: Path, stream: bool
) -> None:
    refused = AuthenticationFailed("our key is not accepted", provider="scripted", status=401)
    busy = RateLimited("slow down", provider="scripted", status=429, retry_after_s=700.5)
    async with serving(make_bot(tmp_path, ScriptedProvider([refused, busy]))) as served:
        answer = await served.chat("Hi", stream=stream)
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "model_service_authentication"
        assert answer.headers["x-should-retry"] == "false"
        answer = await served.chat("Hi", stream=stream)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "701"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_bug_is_a_500_that_gives_nothing_away(tmp_path: Path, stream: bool) -> None:
    class Filter(AgentHook):
        def finalize_content(self, context: AgentHookContext, content: str) -> str:
            raise ZeroDivisionError("the secret is 42")

    bot = make_bot(tmp_path, ScriptedProvider([Answer(tool_calls=[])]), hooks=[Filter()])
    async with serving(bot) as served:
        answer = await served.chat("Hi", stream=stream)
        assert answer.status_code == 500
        assert "42" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{", 400, "invalid_json", None),
        (b"\xff", 400, "invalid_json", None),
        (b"[]", 400, "invalid_value", None),
        (b"{}", 400, "invalid_value", None),
        (chat(), 400, "invalid_value", "messages"),
        (chat({"role": "nobody", "content": "x"}), 400, "invalid_value", "messages[0].role"),
        (chat("Hi", n=2), 400, "invalid_value", "n"),
        (chat("Hi", stream="yes"), 400, "invalid_value", "stream"),
        (chat("Hi", session_id=""), 400, "invalid_value", "session_id"),
        (chat("Hi", model="gpt-4"), 404, "model_not_found", "model"),
        (
            chat("Hi", {"role": "assistant", "content": "x"}),
            422,
            "last_message_not_user",
            "messages",
        ),
        (
            chat(
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "http://h/"}}],
                }
            ),
            400,
            "invalid_value",
            "messages[0].content[0].image_url.url",
        ),
        (
            chat(
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:x,y"}}],
                }
            ),
            422,
            "unreadable_file",
            "messages[0].content[0]",
        ),
        (
            chat({"role": "user", "content": [{"type": "file", "file": {"file_data": "!"}}]}),
            422,
            "unreadable_file",
            "messages[0].content[0]",
        ),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    tmp_path: Path, body: Any, status: int, code: str, param: str | None
) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider([]))) as served:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await served.client.post(
            "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert error["type"] == "invalid_request_error"
        assert error["message"]


async def test_paths_methods_and_types_that_are_not_served_are_refused_in_the_same_shape(
    tmp_path: Path,
) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider([]))) as served:
        ask = served.client
        answers = [
            await ask.get("/v1/nothing"),
            await ask.get("/v1/chat/completions"),
            await ask.post("/v1/chat/completions", content=b"Hi"),
            await ask.get("/v1/models/other"),
        ]
        assert [answer.status_code for answer in answers] == [404, 405, 415, 404]
        assert all(answer.json()["error"]["code"] for answer in answers)
        assert answers[1].headers["allow"] == "POST"


async def test_a_websocket_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider(["Hello"]))) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
            await stream.send_all(
                b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
                b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 403 ")
        assert (await served.chat("Hi")).status_code == 200


async def test_http_2_is_refused_for_it_cannot_cut_a_stream_off(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider([]))) as served:
        async with await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
            await stream.send_all(
                b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\n"
                b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
            )
            got = b""
            while b'"code":"http_version"' not in got:
                piece = await stream.receive_some()
                assert piece, got
                got += piece


async def test_images_are_shown_and_files_are_named_and_kept_for_the_session(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider(["A red pixel."])
    async with serving(make_bot(tmp_path, provider)) as served:
        answer = await served.chat(
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": PIXEL_URL}},
                    {
                        "type": "file",
                        "file": {
                            "filename": "../../notes.txt",
                            "file_data": base64.b64encode(b"remember").decode(),
                        },
                    },
                ],
            }
        )
        assert answer.status_code == 200, answer.text
    asked = provider.requests[0].messages[-1]
    assert isinstance(asked, UserMessage)
    assert [part for part in asked.content if isinstance(part, ImagePart)]
    image, notes = map(Path, asked.media)
    assert image.read_bytes() == PIXEL
    assert notes.read_bytes() == b"remember"
    assert notes.name.endswith("-notes.txt")
    assert (tmp_path / "workspace").resolve() in notes.resolve().parents


async def test_a_form_brings_files_too(tmp_path: Path) -> None:
    provider = ScriptedProvider(["Read.", "Read."])
    async with serving(make_bot(tmp_path, provider)) as served:
        for stream in ("false", "true"):
            answer = await served.client.post(
                "/v1/chat/completions",
                data={"message": "Read this", "session_id": "f", "stream": stream},
                files=[("files", ("a.txt", b"alpha")), ("files", ("b.txt", b"beta"))],
            )
            assert answer.status_code == 200, answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        assert [info.key for info in served.bot.sessions.list()] == ["api:f"]
        for request in provider.requests:
            asked = request.messages[-1]
            assert isinstance(asked, UserMessage)
            assert read_all(asked.media) == [b"alpha", b"beta"]
        broken = await served.client.post(
            "/v1/chat/completions", content=b"x", headers={"content-type": "multipart/form-data"}
        )
        assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_form")
        no_message = await served.client.post("/v1/chat/completions", files={"a": ("a", b"x")})
        assert (no_message.status_code, no_message.json()["error"]["param"]) == (400, "message")


async def test_files_and_bodies_past_the_limit_are_refused_and_the_client_reads_why(
    tmp_path: Path,
) -> None:
    eleven = b"x" * (11 * 1024 * 1024)
    async with serving(make_bot(tmp_path, ScriptedProvider(["Hi"]))) as served:
        form = await served.client.post(
            "/v1/chat/completions", data={"message": "m"}, files={"a": ("a", eleven)}
        )
        file = {"file_data": base64.b64encode(eleven).decode()}
        part = await served.chat({"role": "user", "content": [{"type": "file", "file": file}]})
        body = await served.chat("x" * (21 * 1024 * 1024))
        assert [answer.status_code for answer in (form, part, body)] == [413] * 3
        assert [answer.json()["error"]["code"] for answer in (form, part, body)] == [
            "file_too_large",
            "file_too_large",
            "request_too_large",
        ]
        assert (await served.chat("still there?")).status_code == 200


async def test_a_run_that_takes_too_long_is_ended_with_a_504(tmp_path: Path) -> None:
    silent = Answer("one two", fault=Stall(after_deltas=1))
    bot = make_bot(tmp_path, ScriptedProvider([silent, silent]))
    async with serving(bot, ServerSettings(timeout_s=0.2)) as served:
        answer = await served.chat("Hi")
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        got = b""
        async with served.streamed("Hi") as response:
            with pytest.raises(httpx.RemoteProtocolError):
                async for piece in response.aiter_bytes():
                    got += piece
        assert events_of(got.decode())[-1]["error"]["code"] == "timeout"


async def test_a_full_queue_is_a_429_and_a_busy_session_a_409_for_those_who_ask(
    tmp_path: Path,
) -> None:
    started, go_on = trio.Event(), trio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        started.set()
        await go_on.wait()
        return "done"

    call = Answer(tool_calls=[("wait", {})])
    provider = ScriptedProvider([call, "One.", "Two."])
    bot = make_bot(tmp_path, provider, tools=[wait])
    settings = ServerSettings(max_requests=3, max_per_session=2)
    async with serving(bot, settings) as served:
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await served.chat("Hi", session_id="s"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await started.wait()
            busy = await served.client.post(
                "/v1/chat/completions",
                json=chat("Hi", session_id="s"),
                headers={"x-session-busy": "reject"},
            )
            assert (busy.status_code, busy.json()["error"]["code"]) == (409, "session_busy")
            nursery.start_soon(ask)
            while await metric(served, "nanobot_requests_asked") < 2:  # noqa: ASYNC110 - it is asked for over HTTP
                await trio.lowlevel.checkpoint()
            full = await served.chat("Hi", session_id="s")
            assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
            assert int(full.headers["retry-after"]) >= 1
            go_on.set()
        assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_client_that_leaves_takes_its_run_and_the_models_connection_with_it(
    tmp_path: Path,
) -> None:
    def script(_request: RecordedRequest) -> Answer:
        return Answer("one two", fault=Stall(after_deltas=1))

    async with scripted_server(script) as model:
        async with serving(make_bot(tmp_path, base_url=model.base_url)) as served:
            async with await trio.open_tcp_stream("127.0.0.1", served.port) as client:
                body = json.dumps(chat("Hi", stream=True)).encode()
                await client.send_all(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                    % (len(body), body)
                )
                got = b""
                while b"one" not in got:
                    got += await client.receive_some()
            await model.wait_until(lambda counts: counts.open_connections == 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(served.chat, "Hi")
                await model.wait_until(lambda counts: counts.requests == 2)
                nursery.cancel_scope.cancel()
            await model.wait_until(lambda counts: not counts.open_connections)
            while await metric(served, 'nanobot_turns_total{outcome="cancelled"}') < 2:  # noqa: ASYNC110 - it is asked for over HTTP
                await trio.lowlevel.checkpoint()


async def metric(served: Served, name: str) -> float:
    """One number of `/metrics`, 0 if it is not there yet."""
    text = (await served.client.get("/metrics")).text
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(found[0]) if found else 0.0


def read_all(paths: Sequence[str]) -> list[bytes]:
    return [Path(path).read_bytes() for path in paths]


def said_to(request: ModelRequest) -> str:
    return " ".join(str(message.content) for message in request.messages)


def everything_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
