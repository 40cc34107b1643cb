"""The Responses API over real HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from nanobot import Nanobot
from nanobot.errors import StoreError
from nanobot.sessions import InMemoryStore, SessionRecord
from nanobot.testing import Answer, Cut, ScriptedProvider
from tests.server.servers import Served, events_of, make_bot, serving

PIXEL_URL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def ask(served: Served, **body: Any) -> httpx.Response:
    return await served.client.post("/v1/responses", json=body)


async def test_a_text_continues_its_session(tmp_path: Path) -> None:
    provider = ScriptedProvider(["Hello", "Again"])
    async with serving(make_bot(tmp_path, provider)) as served:
        response = (await ask(served, input="one", session_id="s")).json()
        assert response["object"] == "response"
        assert response["status"] == "completed"
        (message,) = response["output"]
        assert (message["type"], message["role"]) == ("message", "assistant")
        assert message["content"][0]["text"] == "Hello"
        assert response["usage"]["input_tokens"] == 10
        said = [{"role": "user", "content": [{"type": "input_text", "text": "two"}]}]
        await ask(served, input=said, user="s")
        session = served.bot.sessions.get("api:s")
        assert session is not None
        assert len(session.messages) == 4


async def test_what_is_not_to_be_stored_reads_the_session_and_leaves_it_alone(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider(["Hello", "Again"])
    async with serving(make_bot(tmp_path, provider)) as served:
        await ask(served, input="My name is Ann.", session_id="s")
        response = (await ask(served, input="And?", session_id="s", store=False)).json()
        assert response["store"] is False
        session = served.bot.sessions.get("api:s")
        assert session is not None
        assert len(session.messages) == 2
    assert "Ann" in str(provider.requests[1].messages)


async def test_a_transcript_with_calls_results_and_images_stands_on_its_own(tmp_path: Path) -> None:
    provider = ScriptedProvider(["Three."])
    async with serving(make_bot(tmp_path, provider)) as served:
        answer = await ask(
            served,
            instructions="Be brief.",
            input=[
                {"role": "user", "content": [{"type": "input_image", "image_url": PIXEL_URL}]},
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "red"},
                {
                    "type": "message",
                    "id": "msg_1",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "Red.", "annotations": []}],
                },
                {"role": "user", "content": "How many letters?"},
            ],
        )
        assert answer.status_code == 200, answer.text
        assert served.bot.sessions.list() == []
    roles = [type(message).__name__ for message in provider.requests[0].messages[1:]]
    assert roles == [
        "SystemMessage",
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
        "AssistantMessage",
        "UserMessage",
    ]


async def test_a_stream_opens_and_closes_all_that_it_tells_of(tmp_path: Path) -> None:
    look = Answer("Let me look.", tool_calls=[("list_dir", {"path": "."})])
    async with serving(make_bot(tmp_path, ScriptedProvider([look, "Two files."]))) as served:
        events = events_of((await ask(served, input="Hi", stream=True)).text)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    message = [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ]
    told = [kind for at, kind in enumerate(kinds[2:-1], 2) if kind != kinds[at - 1]]
    assert told == message * 2
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    texts = ["".join(d["delta"] for d in deltas if d["output_index"] == at) for at in (0, 1)]
    assert texts == ["Let me look.", "Two files."]
    output = events[-1]["response"]["output"]
    assert [item["content"][0]["text"] for item in output] == texts
    assert [item["id"] for item in output] == list(dict.fromkeys(d["item_id"] for d in deltas))


async def test_a_stream_that_fails_tells_why_and_never_ends_cleanly(tmp_path: Path) -> None:
    provider = ScriptedProvider([Answer("one two three", fault=Cut(after_deltas=2))] * 9)
    async with serving(make_bot(tmp_path, provider)) as served:
        got = b""
        body = {"input": "Hi", "stream": True}
        async with served.client.stream("POST", "/v1/responses", json=body) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                async for piece in response.aiter_bytes():
                    got += piece
    last = events_of(got.decode())[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"].startswith("model_service")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, None),
        ({"input": []}, 400, "input"),
        ({"input": "Hi", "previous_response_id": "resp_1"}, 400, "previous_response_id"),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "http://h"}]}
                ]
            },
            400,
            None,
        ),
        ({"input": [{"type": "message", "content": "Hi"}]}, 422, "input[0].role"),
        ({"input": [{"type": "reasoning"}]}, 422, "input"),
        ({"input": [{"role": "assistant", "content": "Hi"}]}, 422, "input"),
        (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]},
            422,
            "input",
        ),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(
    tmp_path: Path, body: dict[str, Any], status: int, param: str | None
) -> None:
    async with serving(make_bot(tmp_path, ScriptedProvider([]))) as served:
        answer = await ask(served, **body)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        if param is not None:
            assert error["param"] == param


class Gone(InMemoryStore):
    def read(self, key: str, **how: Any) -> SessionRecord | None:
        raise StoreError("cannot reach postgres.internal")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_store_says_is_for_the_log(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    stream: bool,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    bot = Nanobot.from_config(provider=ScriptedProvider(["Hi."]), store=Gone())
    async with bot, serving(bot) as served:
        body = {"input": "Hi", "store": False, "stream": stream}
        answer = await served.client.post("/v1/responses", json=body)
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert error["code"] == "store_failed"
    assert error["message"] == "The session store failed; the server's log says how."
    assert "postgres.internal" in caplog.text
