"""A run that waits for an approval: answers say so, in a field that clients of OpenAI's API do not mind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.parking import CALL, make_bot
from tests.server.servers import Served, events_of, serving


def check(told: dict[str, Any], served: Served) -> str:
    """What is said is what the bot's own list says; returns the id."""
    (waiting,) = served.bot.approvals.list()
    assert told["stop_reason"] == "parked"
    approval = told["approval"]
    assert waiting.id in approval.pop("decide")
    assert approval == {
        "id": waiting.id,
        "session_key": "api:s",
        "name": "launch",
        "arguments": {"target": "moon"},
        "tool_call_id": waiting.tool_call_id,
        "expires_at": waiting.expires_at,
    }
    return waiting.id


async def test_a_chat_says_what_it_waits_for_and_goes_on_after_the_decision(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, [CALL, "We are off.", "Hi!"])) as served:
        body = (await served.chat("Go", session_id="s")).json()
        (choice,) = body["choices"]
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["content"] == "A moment. "
        served.bot.approvals.approve(check(body["nanobot"], served))
        result = await served.bot.resume("api:s")
        assert result.content == "We are off."
        assert "nanobot" not in (await served.chat("Hello", session_id="s")).json()


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_stream_says_it_once_with_its_finish_reason(
    tmp_path: Path, include_usage: bool
) -> None:
    options = {"stream_options": {"include_usage": include_usage}}
    async with serving(make_bot(tmp_path, [CALL])) as served:
        async with served.streamed("Go", session_id="s", **options) as response:
            events = events_of((await response.aread()).decode())
        (told,) = [event for event in events[:-1] if "nanobot" in event]
        assert told["choices"][0]["finish_reason"] == "stop"
        check(told["nanobot"], served)
        assert events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_the_responses_api_says_it_in_the_response(tmp_path: Path, stream: bool) -> None:
    async with serving(make_bot(tmp_path, [CALL])) as served:
        question = {"input": "Go", "session_id": "s", "stream": stream}
        answer = await served.client.post("/v1/responses", json=question)
        if stream:
            events = events_of(answer.text)
            assert [
                event["type"] for event in events if "nanobot" in event.get("response", {})
            ] == ["response.completed"]
            response = events[-1]["response"]
        else:
            response = answer.json()
        assert response["status"] == "completed"
        check(response["nanobot"], served)


async def test_a_transcript_cannot_wait_and_is_answered(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, [CALL, "I may not."])) as served:
        said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go"}]
        body = (await served.chat(*said)).json()
        assert body["choices"][0]["message"]["content"] == "I may not."
        assert "nanobot" not in body
        assert served.bot.approvals.list() == []


async def test_the_description_of_the_api_knows_the_field(tmp_path: Path) -> None:
    async with serving(make_bot(tmp_path, [])) as served:
        document = (await served.client.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for name in ("ChatCompletion", "ChatChunk", "ResponseObject"):
        assert "ParkedRun" in json.dumps(schemas[name]["properties"]["nanobot"])
        assert "nanobot" not in schemas[name].get("required", [])
