"""A turn that was parked for a decision goes on in its chat, once, whenever somebody decides and whoever that is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from nanobot.testing import Answer
from nanobot.tools import tool
from tests.gateway.conftest import Client, Stage, open_stage

ran: list[str] = []


@tool(approval="ask")
async def launch(target: str) -> str:
    """Launch a rocket."""
    ran.append(target)
    return "launched"


ASKS = Answer("A moment.", tool_calls=[("launch", {"target": "moon"})])


@asynccontextmanager
async def parked(*after: Any) -> AsyncIterator[tuple[Stage, Client, str, dict[str, Any]]]:
    """A chat whose turn is parked: the stage, a client, the chat's id, and what the turn waits for. `after` is what the model
    says then, or what says it.
    """
    ran.clear()
    said = iter([ASKS, *after])

    async def model(request: Any) -> Any:
        answer = next(said)
        return await answer(request) if callable(answer) else answer

    async with (
        open_stage(model, tools=[launch], approval_timeout_s=0.02, park=True) as stage,
        stage.client() as client,
    ):
        chat_id = (await client.next())["chat_id"]
        await client.say("go")
        end = await client.until("turn_end")
        assert end["stop_reason"] == "parked"
        yield stage, client, chat_id, end["approval"]


def decision(approval: dict[str, Any], said: str, **more: str) -> dict[str, Any]:
    return {"type": "approval", "request_id": approval["id"], "decision": said, **more}


async def test_it_goes_on_with_the_decision_of_a_client() -> None:
    async with parked("We are off.") as (stage, client, chat_id, approval):
        await client.say(decision(approval, "approved"))
        resumed = await client.until("turn_resumed")
        assert resumed["request_id"] == approval["id"]
        assert resumed["decision"] == "approved"
        end = await client.until("turn_end")
        assert end["turn_id"] == resumed["turn_id"] != client.of("user_message")[0]["turn_id"]
        assert end["stop_reason"] == "completed"
        assert [frame["phase"] for frame in client.of("tool")][-1] == "completed"
        assert client.text().endswith("We are off.")
        assert ran == ["moon"]
        assert stage.bot.approvals.list() == []
        await client.say(decision(approval, "approved", chat_id=chat_id))
        assert (await client.until("error"))["reason"] == "no_such_request"


async def test_what_is_refused_is_not_run_and_the_model_hears_why() -> None:
    heard: list[str] = []

    async def answer(request: Any) -> str:
        heard.append(str(request.messages[-1].content))
        return "Then not."

    async with parked(answer) as (_, client, _, approval):
        await client.say(decision(approval, "denied", reason="There is a storm."))
        assert (await client.until("turn_resumed"))["decision"] == "denied"
        assert (await client.until("turn_end"))["stop_reason"] == "completed"
    assert ran == []
    assert "There is a storm." in heard[0]


async def test_of_many_who_decide_at_once_one_does() -> None:
    async with parked("We are off.") as (stage, first, chat_id, approval):
        async with stage.client() as second:
            await second.say({"type": "attach", "chat_id": chat_id, "history": 100})
            assert (await second.until("attached"))["approval"]["id"] == approval["id"]
            for client in (first, second) * 3:
                await client.say(decision(approval, "approved", chat_id=chat_id))
            for client in (first, second):
                assert (await client.until("turn_end", stop_reason="completed")) is not None
                assert len(client.of("turn_resumed")) == 1
    assert ran == ["moon"]


async def test_whoever_comes_later_is_told_what_it_waits_for_and_may_decide() -> None:
    async with parked("We are off.") as (stage, _, chat_id, approval):
        async with stage.client() as client:
            await client.say({"type": "attach", "chat_id": chat_id, "history": 100})
            attached = await client.until("attached")
            assert attached["approval"].pop("expires_at") == approval["expires_at"]
            assert attached["approval"] == {
                "id": approval["id"],
                "name": "launch",
                "arguments": {"target": "moon"},
                "description": "Launch a rocket.",
                "tool_call_id": approval["tool_call_id"],
                "state": "waiting",
            }
            await client.say(decision(approval, "approved", chat_id=chat_id))
            await client.until("turn_end")
        async with stage.client() as client:
            await client.say({"type": "attach", "chat_id": chat_id, "history": 100})
            attached = await client.until("attached")
            assert "approval" not in attached
            said = [(one["role"], one["content"]) for one in attached["messages"]]
            assert said[0] == ("user", "go")
            assert said[-1] == ("assistant", "We are off.")


async def test_whoever_comes_while_it_goes_on_gets_nothing_twice() -> None:
    held, let_go = trio.Event(), trio.Event()

    async def answer(_request: Any) -> str:
        held.set()
        await let_go.wait()
        return "We are off."

    async with parked(answer) as (stage, first, chat_id, approval):
        await first.say(decision(approval, "approved"))
        resumed = await first.until("turn_resumed")
        await held.wait()
        async with stage.client() as client:
            await client.say({"type": "attach", "chat_id": chat_id, "history": 100})
            attached = await client.until("attached")
            assert "approval" not in attached
            assert [one["turn_id"] for one in attached["turns"]] == [resumed["turn_id"]]
            assert [one["role"] for one in attached["messages"]] == ["user"]
            let_go.set()
            await client.until("turn_end")
            assert [frame["phase"] for frame in client.of("tool")] == ["started", "completed"]
            assert client.text() == "We are off."


async def test_what_was_decided_elsewhere_goes_on_when_it_is_asked_for() -> None:
    async with parked("We are off.") as (stage, client, _, approval):
        await client.say({"type": "resume"})  # nobody has decided yet
        error = await client.until("error")
        assert error["turn_id"] == client.of("turn_resumed")[0]["turn_id"]
        assert (await client.until("turn_end"))["stop_reason"] == "error"
        stage.bot.approvals.approve(approval["id"])
        await client.say({"type": "resume"})
        assert (await client.until("turn_end"))["stop_reason"] == "completed"
    assert ran == ["moon"]


async def test_a_decision_that_was_written_down_before_a_crash_is_carried_out() -> None:
    async with parked("We are off.") as (stage, client, _, approval):
        stage.bot.approvals.deny(approval["id"], "No.")
        await client.say(decision(approval, "approved"))  # it stays what it was
        assert (await client.until("turn_end"))["stop_reason"] == "completed"
    assert ran == []


async def test_what_has_expired_can_only_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with parked("Then not.") as (_, client, chat_id, approval):
        later = time.time() + 10**9
        monkeypatch.setattr(time, "time", lambda: later)
        await client.say(decision(approval, "approved", chat_id=chat_id))
        error = await client.until("error")
        assert (error["reason"], error["chat_id"]) == ("no_such_request", chat_id)
        assert "expired" in error["detail"]
        await client.say(decision(approval, "denied"))
        assert (await client.until("turn_end"))["stop_reason"] == "completed"
    assert ran == []


async def test_a_new_message_gives_it_up() -> None:
    async with parked("Something else.") as (_, client, _, approval):
        await client.say("never mind")
        assert (await client.until("turn_end"))["stop_reason"] == "completed"
        await client.say(decision(approval, "approved"))
        assert (await client.until("error"))["reason"] == "no_such_request"
    assert ran == []


async def test_another_chats_decision_is_not_taken() -> None:
    async with parked("never said") as (stage, client, _, approval):
        await client.say({"type": "new_chat"})
        other = (await client.until("attached"))["chat_id"]
        await client.say(decision(approval, "approved", chat_id=other))
        error = await client.until("error")
        assert (error["reason"], error["chat_id"]) == ("no_such_request", other)
        assert [one.state for one in stage.bot.approvals.list()] == ["waiting"]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "resume"},
        {"type": "approval", "request_id": "nobody's", "decision": "approved"},
    ],
)
async def test_a_temporary_chat_keeps_no_turn(frame: dict[str, Any]) -> None:
    async with open_stage() as stage, stage.client() as client:
        await client.say({"type": "new_temporary_chat"})
        chat_id = (await client.until("attached"))["chat_id"]
        await client.say({**frame, "chat_id": chat_id})
        error = await client.until("error")
        assert (error["reason"], error["chat_id"]) == ("no_such_request", chat_id)
