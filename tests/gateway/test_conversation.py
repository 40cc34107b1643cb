"""Talking to a gateway over real WebSockets on loopback: turns, chats, cancelling, tools, approval."""

from __future__ import annotations

import json
from typing import Any

import trio

from nanobot.testing import Answer, Stall
from nanobot.tools import tool
from tests.gateway.conftest import open_stage


async def test_greets_and_answers_plain_text_in_the_connections_own_chat() -> None:
    async with open_stage() as stage, stage.client("?client_id=ada") as client:
        ready = await client.next()
        assert ready["event"] == "ready"
        assert ready["client_id"] == "ada"
        await client.say("Hi!")
        end = await client.until("turn_end")
        assert client.text() == "Hello there."
        assert {frame["chat_id"] for frame in client.seen} == {ready["chat_id"]}
        assert end["stop_reason"] == "completed"
        assert end["usage"]["total_tokens"] == 15
        assert end["latency_ms"] >= 0
        kinds = [frame["event"] for frame in client.seen if frame["event"] != "delta"]
        assert kinds == ["ready", "user_message", "turn_start", "stream_end", "turn_end"]


async def test_a_client_without_a_name_gets_one() -> None:
    async with open_stage() as stage, stage.client() as client:
        assert (await client.next())["client_id"].startswith("anon-")


async def test_every_way_to_say_something_is_understood() -> None:
    ways = [
        "plain",
        json.dumps({"content": "a"}),
        json.dumps({"text": "b"}),
        json.dumps({"message": "c"}),
        json.dumps({"type": "message", "content": "d"}),
        json.dumps(["no", "object"]),
        "{broken",
    ]
    async with open_stage() as stage, stage.client() as client:
        for way in ways:
            await client.say(way)
        for _ in ways:
            await client.until("turn_end")
        said = [frame["text"] for frame in client.of("user_message")]
        assert said == ["plain", "a", "b", "c", "d", '["no", "object"]', "{broken"]


async def test_reasoning_tools_and_text_come_in_their_order() -> None:
    @tool
    async def weather(city: str) -> str:
        """Tell the weather."""
        return f"Rain in {city}"

    answers = [
        Answer(
            "Let me look.", reasoning="Where is it?", tool_calls=[("weather", {"city": "Bonn"})]
        ),
        "It rains.",
    ]
    async with open_stage(answers, tools=[weather]) as stage, stage.client() as client:
        await client.say("Weather?")
        await client.until("turn_end")
        kinds = [frame["event"] for frame in client.seen]
        order = [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k]
        assert order == [
            "ready", "user_message", "turn_start", "reasoning_delta", "reasoning_end",
            "delta", "stream_end", "tool", "delta", "stream_end", "turn_end",
        ]  # fmt: skip
        started, completed = client.of("tool")
        assert (started["name"], started["arguments"]) == ("weather", {"city": "Bonn"})
        assert completed["phase"] == "completed"
        assert completed["result"] == "Rain in Bonn"
        assert completed["call_id"] == started["call_id"]
        assert completed["elapsed_ms"] >= 0
        assert [frame.get("resuming", False) for frame in client.of("stream_end")] == [True, False]
        assert client.text("reasoning_delta") == "Where is it?"


async def test_sequence_numbers_have_no_gap() -> None:
    async with open_stage() as stage, stage.client() as client:
        for _ in range(3):
            await client.say("Hi!")
        for _ in range(3):
            await client.until("turn_end")
        numbers = [frame["seq"] for frame in client.seen if "seq" in frame]
        assert numbers == sorted(set(numbers))
        chat = stage.gateway.chats.find(client.seen[0]["chat_id"])
        assert chat is not None
        assert numbers[-1] == chat.log.last


async def test_many_chats_over_one_connection_are_answered_at_once() -> None:
    both = trio.Event()
    waiting: list[str] = []

    async def answer(request: Any) -> str:
        said = str(request.messages[-1].content)
        waiting.append(said)
        if len(waiting) == 2:
            both.set()
        await both.wait()  # none is answered before both were asked
        return f"You said {said.splitlines()[0]}"

    async with open_stage(answer) as stage, stage.client() as client:
        await client.say({"type": "message", "chat_id": "one", "content": "first"})
        await client.say({"type": "message", "chat_id": "two", "content": "second"})
        for _ in range(2):
            await client.until("turn_end")
        texts = {
            chat_id: "".join(f["text"] for f in client.of("delta") if f["chat_id"] == chat_id)
            for chat_id in ("one", "two")
        }
        assert "first" in texts["one"]
        assert "second" in texts["two"]


async def test_cancel_ends_a_turn_and_those_that_wait() -> None:
    def stall(_: object) -> Answer:
        return Answer("one two", fault=Stall(after_deltas=1))

    async with open_stage(stall) as stage, stage.client() as client:
        await client.say("a")
        await client.until("delta")
        await client.say("b")
        await client.until("user_message", text="b")
        await client.say({"type": "cancel"})
        ends = [await client.until("turn_end") for _ in range(2)]
        assert [end["stop_reason"] for end in ends] == ["cancelled", "cancelled"]
        assert client.of("error") == []
        assert stage.bot.runtime.statistics().live_runs == 0


async def test_a_failing_model_is_an_error_and_an_end() -> None:
    async with open_stage([]) as stage, stage.client() as client:
        await client.say("a")  # the script is exhausted, which is a bug in the provider
        error = await client.until("error")
        end = await client.until("turn_end")
        assert error["reason"] == "error"
        assert end["stop_reason"] == "error"
        await client.say({"type": "ping"})
        await client.until("pong")


async def test_a_call_that_needs_approval_is_asked_about_over_the_wire() -> None:
    ran: list[str] = []

    @tool(approval="ask")
    async def launch(target: str) -> str:
        """Launch."""
        ran.append(target)
        return "launched"

    calls = Answer(tool_calls=[("launch", {"target": "moon"})])
    answers = [calls, "Done.", calls, "Then not.", calls]
    async with open_stage(answers, tools=[launch]) as stage:
        async with stage.client() as client:
            for decision in ("approved", "denied", "withdrawn"):
                await client.say("go")
                request = await client.until("approval_request")
                assert request["arguments"] == {"target": "moon"}
                if decision == "withdrawn":
                    await client.say({"type": "cancel"})
                else:
                    answer = {"type": "approval", "request_id": request["request_id"]}
                    await client.say({**answer, "decision": decision})
                end = await client.until("approval_end", request_id=request["request_id"])
                assert end["decision"] == decision
                await client.until("turn_end")
            assert ran == ["moon"]
            await client.say({"type": "approval", "request_id": "x", "decision": "approved"})
            assert (await client.until("error"))["reason"] == "no_such_request"


async def test_a_call_that_nobody_decides_on_is_not_run() -> None:
    ran: list[str] = []

    @tool(approval="ask")
    async def launch(target: str) -> str:
        """Launch."""
        ran.append(target)
        return "launched"

    answers = [Answer(tool_calls=[("launch", {"target": "moon"})]), "Nobody there."]
    async with open_stage(answers, tools=[launch], approval_timeout_s=0.05) as stage:
        async with stage.client() as client:
            await client.say("go")
            assert (await client.until("approval_end"))["decision"] == "expired"
            await client.until("turn_end")
            assert ran == []


async def test_a_turn_that_nobody_decides_on_may_be_parked_and_says_what_it_waits_for() -> None:
    ran: list[str] = []

    @tool(approval="ask")
    async def launch(target: str) -> str:
        """Launch."""
        ran.append(target)
        return "launched"

    answers = [Answer("A moment.", tool_calls=[("launch", {"target": "moon"})]), "We are off."]
    async with open_stage(answers, tools=[launch], approval_timeout_s=0.05, park=True) as stage:
        async with stage.client() as client:
            own = (await client.next())["chat_id"]
            await client.say("go")
            assert (await client.until("approval_end"))["decision"] == "parked"
            end = await client.until("turn_end")
            assert end["stop_reason"] == "parked"
            (waiting,) = stage.bot.approvals.list()
            assert end["approval"]["id"] == waiting.id
            assert end["approval"]["session_key"] == f"websocket:{own}"
            assert end["approval"]["arguments"] == {"target": "moon"}
            stage.bot.approvals.approve(waiting.id)
            assert (await stage.bot.resume(waiting.session_key)).content == "We are off."
            assert ran == ["moon"]


async def test_a_temporary_chat_cannot_wait() -> None:
    @tool(approval="ask")
    async def launch(target: str) -> str:
        """Launch."""
        raise AssertionError("nobody approved it")

    answers = [Answer(tool_calls=[("launch", {"target": "moon"})]), "I may not."]
    async with open_stage(answers, tools=[launch], approval_timeout_s=0.05, park=True) as stage:
        async with stage.client() as client:
            await client.say({"type": "new_temporary_chat"})
            chat_id = (await client.until("attached"))["chat_id"]
            await client.say({"type": "message", "chat_id": chat_id, "content": "go"})
            assert (await client.until("approval_end"))["decision"] == "expired"
            end = await client.until("turn_end")
            assert end["stop_reason"] == "completed"
            assert "approval" not in end


async def test_bad_frames_are_refused_with_a_reason_and_the_connection_goes_on() -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"type": "dance"}, "bad_frame"),
        ({"type": "message", "content": 7}, "bad_frame"),
        ({"nothing": 1}, "bad_frame"),
        ({"type": "attach", "chat_id": "no spaces"}, "bad_chat_id"),
        ({"type": "message", "content": " "}, "empty"),
        ({"type": "message", "content": "x" * 70_000}, "too_long"),
    ]
    async with open_stage() as stage, stage.client() as client:
        for frame, reason in bad:
            await client.say(frame)
            assert (await client.until("error"))["reason"] == reason
        await client.websocket.send_message(b"binary")
        assert (await client.until("error"))["reason"] == "bad_frame"
        await client.say("still here")
        await client.until("turn_end")


async def test_chats_are_listed_and_deleted() -> None:
    async with open_stage() as stage, stage.client() as client:
        await client.say({"type": "message", "chat_id": "one", "content": "Tell me of whales"})
        await client.until("turn_end")
        await stage.bot.run("elsewhere", session_key="sdk:other")
        await client.say({"type": "list_chats"})
        (row,) = (await client.until("chats"))["chats"]
        assert row["chat_id"] == "one"
        assert row["title"] == "Tell me of whales"
        assert row["message_count"] == 2
        await client.say({"type": "search_chats", "query": "whale"})
        found = await client.until("chats")
        assert found["query"] == "whale"
        assert [one["chat_id"] for one in found["chats"]] == ["one"]
        assert "whales" in found["chats"][0]["excerpt"]
        await client.say({"type": "search_chats", "query": "squid"})
        assert (await client.until("chats"))["chats"] == []
        await client.say({"type": "delete_chat", "chat_id": "one"})
        assert (await client.until("chat_deleted"))["chat_id"] == "one"
        await client.say({"type": "list_chats"})
        assert (await client.until("chats"))["chats"] == []


async def test_the_runtime_is_shown_to_who_watches_it() -> None:
    async with open_stage() as stage, stage.client() as client:
        await client.say("Hi!")
        await client.until("turn_end")
        await client.say({"type": "watch_runtime"})
        seen = await client.until("runtime")
        assert seen["statistics"]["turns"]["ended"] == 1
        assert seen["connections"] == 1
        await client.until("runtime")  # and again a second later
        await client.say({"type": "unwatch_runtime"})
        await client.say({"type": "ping"})
        await client.until("pong")
