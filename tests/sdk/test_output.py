"""`output_type=` from every host, over real HTTP, with each way in which a service can be brought to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from nanobot import STREAM_EVENT_RUN_COMPLETED, Nanobot
from nanobot.errors import InvalidArgument, NoOutput, UsageError
from nanobot.sessions import InMemoryStore
from nanobot.testing import (
    Answer,
    ScriptedProvider,
    Stall,
    assert_legal_history,
    scripted_server,
)
from tests.providers.loopback import named_event

from .conftest import Host


class Person(msgspec.Struct):
    name: str
    age: int


@dataclass
class Counts:
    by_name: dict[str, int]


ADA = '{"name": "Ada", "age": 36}'
GIVEN = Answer(tool_calls=[("final_answer", {"name": "Ada", "age": 36})])


def bot_of(folder: Path, model: str, base_url: str, **defaults: Any) -> Nanobot:
    folder.mkdir(parents=True, exist_ok=True)
    providers = {
        name: {"apiKey": "k", "apiBase": base_url}
        for name in ("openai", "own", model.split("/")[0])
    }
    config = {
        "agents": {"defaults": {"model": model, **defaults}},
        "providers": providers,
        "sessions": {"durability": "fast"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return Nanobot.from_config(folder / "config.json", workspace=folder / "workspace")


def kept(bot: Nanobot) -> list[dict[str, Any]]:
    snapshot = bot.sessions.get("sdk:default")
    assert snapshot is not None
    return snapshot.messages


def test_a_service_that_enforces_schemas_is_asked_to(host: Host, tmp_path: Path) -> None:
    async def story() -> None:
        with scripted_server([ADA, "Yes."]) as server:
            async with bot_of(tmp_path, "openai/gpt-4.1", server.base_url) as bot:
                result = await bot.run("Who?", output_type=Person)
                assert result.output == Person("Ada", 36)
                assert result.content == ADA
                await bot.run("Really?")
                history = kept(bot)
            first, second = server.requests
            schema = first.json["response_format"]["json_schema"]
            assert (schema["name"], schema["strict"]) == ("Person", True)
            assert b"final_answer" not in first.body
            assert "response_format" not in second.json
            assert_legal_history(history)
            assert [message["role"] for message in history] == ["user", "assistant"] * 2

    host.run(story)


@pytest.mark.parametrize(
    ("model", "defaults", "kind"),
    [
        ("own/m", {}, Person),
        ("openai/gpt-3.5-turbo", {}, Person),
        ("openai/gpt-4.1", {"fallbackModels": [{"model": "own/m"}]}, Person),
    ],
)
def test_another_one_gets_a_tool(
    tmp_path: Path, model: str, defaults: dict[str, Any], kind: Any
) -> None:
    with scripted_server([GIVEN, "Yes."]) as server:
        with bot_of(tmp_path, model, server.base_url, **defaults) as bot:
            result = bot.run_sync("Who?", output_type=kind)
            assert result.output == Person("Ada", 36)
            assert result.content == '{"name":"Ada","age":36}'
            bot.run_sync("Really?")
        first, second = server.requests
        assert "response_format" not in first.json
        assert "final_answer" in [tool["function"]["name"] for tool in first.json["tools"]]
        assert "final_answer" not in [tool["function"]["name"] for tool in second.json["tools"]]
        assert_legal_history(second.json["messages"])
        assert second.json["messages"][-2]["content"] == '{"name":"Ada","age":36}'


def test_a_schema_that_cannot_be_enforced_goes_by_the_tool(tmp_path: Path) -> None:
    answer = Answer(tool_calls=[("final_answer", {"by_name": {"a": 1}})])
    with scripted_server([answer]) as server:
        with bot_of(tmp_path, "openai/gpt-4.1", server.base_url) as bot:
            assert bot.run_sync("Count.", output_type=Counts).output == Counts({"a": 1})


def test_a_stream_yields_the_text_and_the_handle_the_value(host: Host, tmp_path: Path) -> None:
    provider = ScriptedProvider([Answer(['{"na', 'me": "Ada", ', '"age": 36}']), ADA, GIVEN])

    async def story() -> None:
        async with Nanobot.from_config(provider=provider, workspace=tmp_path / "w") as bot:
            run = await bot.run_streamed("Who?", output_type=Person)
            pieces = [event.delta async for event in run.stream_events() if event.delta]
            assert "".join(pieces) == ADA
            assert (await run.wait()).output == Person("Ada", 36)
            for said in (ADA, '{"name":"Ada","age":36}'):
                text = ""
                async for event in bot.stream("Who?", output_type=Person):
                    text += event.delta
                    if event.type == STREAM_EVENT_RUN_COMPLETED:
                        assert event.result is not None
                        assert event.result.output == Person("Ada", 36)
                assert text == said

    host.run(story)


def test_what_stays_wrong_is_a_failure_with_the_raw_text(host: Host, tmp_path: Path) -> None:
    provider = ScriptedProvider(["Ada, I think."] * 3)

    async def story() -> None:
        async with Nanobot.from_config(
            provider=provider, store=InMemoryStore(), workspace=tmp_path / "w"
        ) as bot:
            result = await bot.run("Who?", output_type=Person)
            assert result.stop_reason == "error"
            assert result.content == result.metadata["raw_output"] == "Ada, I think."
            with pytest.raises(NoOutput, match="Person 3 times"):
                _ = result.output
            assert_legal_history(kept(bot))

    host.run(story)


def test_runs_that_were_cancelled_have_no_output(host: Host, tmp_path: Path) -> None:
    provider = ScriptedProvider([Answer("{", fault=Stall(1)), ADA])

    async def story() -> None:
        async with Nanobot.from_config(provider=provider, workspace=tmp_path / "w") as bot:
            running = await bot.run_streamed("Who?", output_type=Person)
            events = running.stream_events()
            while not (await anext(events)).delta:
                pass  # until the model has been asked
            queued = await bot.run_streamed("Who?", output_type=Person)
            await queued.cancel()
            await running.cancel()
            for run in (running, queued):
                with pytest.raises(NoOutput):
                    _ = (await run.wait()).output
            assert (await bot.run("Who?", output_type=Person)).output.name == "Ada"

    host.run(story)


def test_types_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    provider = ScriptedProvider([])
    with Nanobot.from_config(provider=provider, workspace=tmp_path / "w") as bot:
        with pytest.raises(UsageError, match="output_type"):
            bot.run_sync("Who?", output_type=object)
        with pytest.raises(InvalidArgument, match="output_retries"):
            bot.run_sync("Who?", output_type=Person, output_retries=-1)
    assert provider.request_count == 0


def test_sessions_that_run_at_once_get_what_each_asked_for(tmp_path: Path) -> None:
    kinds: dict[str, tuple[Any, str, Any]] = {
        "person": (Person, ADA, Person("Ada", 36)),
        "list": (list[int], "[1]", [1]),
    }

    def answer(request: Any) -> str:
        return kinds[request.messages[-1].content.split()[0]][1]

    async def story() -> None:
        provider = ScriptedProvider(answer)
        async with Nanobot.from_config(provider=provider, workspace=tmp_path / "w") as bot:
            names = ["person", "list"] * 20

            async def one(number: int, name: str) -> None:
                kind, _, value = kinds[name]
                result = await bot.run(f"{name} please", output_type=kind, session_key=str(number))
                assert result.output == value

            await asyncio.gather(*(one(*each) for each in enumerate(names)))

    asyncio.run(story())


class Recorded:
    """A service that gives one answer, in the words of its API, and keeps what it was asked."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[dict[str, Any]] = []


@contextmanager
def recorded(body: bytes) -> Iterator[tuple[str, Recorded]]:
    service = Recorded(body)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            service.asked.append(json.loads(self.rfile.read(size)))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(service.body)))
            self.end_headers()
            self.wfile.write(service.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def anthropic_says(block: dict[str, Any], delta: dict[str, Any], stop_reason: str) -> bytes:
    return b"".join(
        (
            named_event("message_start", message={"usage": {"input_tokens": 3}}),
            named_event("content_block_start", index=0, content_block=block),
            named_event("content_block_delta", index=0, delta=delta),
            named_event("content_block_stop", index=0),
            named_event("message_delta", delta={"stop_reason": stop_reason}),
            named_event("message_stop"),
        )
    )


def responses_say(item: dict[str, Any]) -> bytes:
    response = {"id": "r", "status": "completed", "output": [item], "usage": None}
    return b"".join(
        (
            named_event("response.output_item.added", output_index=0, item=item),
            named_event("response.output_item.done", output_index=0, item=item),
            named_event("response.completed", response=response),
        )
    )


TEXT_ITEM = {
    "type": "message",
    "id": "m",
    "role": "assistant",
    "content": [{"type": "output_text", "text": ADA}],
}
CALL_ITEM = {
    "type": "function_call",
    "id": "f",
    "call_id": "c",
    "name": "final_answer",
    "arguments": ADA,
}


@pytest.mark.parametrize("enforced", [True, False])
@pytest.mark.parametrize("api", ["anthropic", "responses"])
def test_the_other_apis_are_asked_in_their_own_words(
    tmp_path: Path, api: str, enforced: bool
) -> None:
    """With what they have for it where the catalog says so, and else by the tool that ends the run."""
    if api == "anthropic":
        model = "anthropic/claude-opus-4-5" if enforced else "anthropic/claude-3-haiku-20240307"
        tool_use = {"type": "tool_use", "id": "c", "name": "final_answer", "input": {}}
        body = (
            anthropic_says(
                {"type": "text", "text": ""}, {"type": "text_delta", "text": ADA}, "end_turn"
            )
            if enforced
            else anthropic_says(
                tool_use, {"type": "input_json_delta", "partial_json": ADA}, "tool_use"
            )
        )
    else:
        model = "openai/gpt-4.1" if enforced else "own/any"
        body = responses_say(TEXT_ITEM if enforced else CALL_ITEM)
    with recorded(body) as (base_url, service):
        name = model.partition("/")[0]
        provider = {"apiKey": "k", "apiBase": base_url}
        if api == "responses":
            provider["apiType"] = "responses"
        config = {"agents": {"defaults": {"model": model}}, "providers": {name: provider}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with Nanobot.from_config(
            tmp_path / "config.json", workspace=tmp_path / "w", store=InMemoryStore()
        ) as bot:
            result = bot.run_sync("Who?", output_type=Person)
    assert result.output == Person("Ada", 36), result
    assert json.loads(result.content) == json.loads(ADA)
    (asked,) = service.asked
    form = (
        asked.get("output_config", {}).get("format")
        if api == "anthropic"
        else asked.get("text", {}).get("format")
    )
    offered = [tool["name"] for tool in asked.get("tools", ())]
    if enforced:
        assert form["schema"]["required"] == ["name", "age"]
        assert "final_answer" not in offered
    else:
        assert form is None
        assert "final_answer" in offered
