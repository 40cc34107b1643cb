"""A turn that is parked or interrupted, and goes on: what it cost is counted over the whole of it, once."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nanobot import Budget, Nanobot, Park, RunResult, tool
from nanobot.agent import Attempt, Ledger, OpenTurn, Tally, estimate_by_length, open_turn_from_bytes
from nanobot.agent._open_turn import WaitingApproval
from nanobot.errors import StoreError
from nanobot.messages import ToolMessage, Usage
from nanobot.providers import ModelRequest
from nanobot.runtime import OPEN_TURN
from nanobot.runtime._spending import Spent, spent_before
from nanobot.sessions import InMemoryStore, open_lease
from nanobot.sessions._rows import json_bytes
from nanobot.testing import Answer, ScriptedProvider

USAGE = Usage(3000, 100, 3100, cached_tokens=7)
COST = (3000 * 2 - 7 * 1.5 + 100 * 8) / 1e6


@tool
async def note(what: str) -> str:
    """Note something."""
    return "noted"


@tool(approval="ask")
async def pay(what: str) -> str:
    """Pay."""
    return "paid"


def steps(*names: str) -> Any:
    """A model that calls one tool in each answer, and is done then."""

    def answer(request: ModelRequest) -> Answer:
        done = sum(isinstance(message, ToolMessage) for message in request.messages)
        if done < len(names):
            return Answer(tool_calls=[(names[done], {"what": str(done)})], usage=USAGE)
        return Answer("Done.", usage=USAGE)

    return answer


def make(
    home: Path, model: Any, store: InMemoryStore | None, *, sessions: Any = None, **defaults: Any
) -> Nanobot:
    path = home / "config.json"
    config = {
        "agents": {"defaults": {"model": "openai/gpt-4.1", "maxTokens": 500, **defaults}},
        "providers": {"openai": {"apiKey": "sk-none"}},
        "sessions": sessions or {},
        "tools": {"exec": {"enable": False}, "web": {"enable": False}},
    }
    path.write_text(json.dumps(config))
    return Nanobot.from_config(
        path,
        workspace=home / "workspace",
        provider=ScriptedProvider(model, "openai"),
        store=store,
        tools=[note, pay],
        approver=Park(),
    )


async def go_on(bot: Nanobot, **options: Any) -> RunResult:
    (waiting,) = bot.approvals.list()
    bot.approvals.approve(waiting.id)
    return await bot.resume("a", **options)


async def test_what_a_turn_cost_before_it_was_parked_is_part_of_its_result(home: Path) -> None:
    async with make(home, steps("note", "pay", "pay"), None) as bot:
        first = await bot.run("go", session_key="a")
        assert first.stop_reason == "parked"
        assert "resumed" not in first.metadata
    async with make(home, steps("note", "pay", "pay"), None) as bot:
        second = await go_on(bot)
        assert second.stop_reason == "parked"  # once more
        third = await go_on(bot)
    assert third.content == "Done."
    for result, requests in ((first, 2), (second, 3), (third, 4)):
        assert result.usage == {
            "prompt_tokens": 3000 * requests,
            "completion_tokens": 100 * requests,
            "total_tokens": 3100 * requests,
            "cached_tokens": 7 * requests,
        }
        assert result.metadata["request_count"] == len(result.metadata["attempts"]) == requests
        assert result.metadata["cost"] == pytest.approx(COST * requests)
    assert third.metadata["iterations"] == 4
    assert [attempt["iteration"] for attempt in third.metadata["attempts"]] == [0, 1, 2, 3]
    assert third.tools_used == ["note", "pay", "pay"]
    assert third.metadata["resumed"]["request_count"] == 3
    assert third.metadata["resumed"]["usage"] == second.usage


async def test_what_bots_count_is_counted_once(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nanobot.runs")
    async with make(home, steps("note", "pay"), InMemoryStore()) as bot:
        await bot.run("go", session_key="a")
        await go_on(bot)
        assert bot.runtime.statistics().turns.total_tokens == 3 * 3100
    records: list[Any] = [one for one in caplog.records if one.name == "nanobot.runs"]
    assert [record.request_count for record in records] == [2, 1]
    assert [record.total_tokens for record in records] == [6200, 3100]
    assert sum(record.cost for record in records) == pytest.approx(3 * COST)


async def test_a_budget_holds_for_the_whole_turn(home: Path) -> None:
    model = steps("note", "note", "pay", "note", "note")
    async with make(home, model, InMemoryStore()) as bot:
        parked = await bot.run("go", session_key="a", max_budget=Budget(tokens=16_000))
        assert parked.stop_reason == "parked"
        result = await go_on(bot)  # has the budget that the turn began with
        assert result.stop_reason == "budget"
        assert result.usage["total_tokens"] == 5 * 3100
    async with make(home, model, InMemoryStore(), maxBudget={"tokens": 16_000}) as bot:
        await bot.run("go", session_key="a")
        assert (await go_on(bot)).stop_reason == "budget"
    async with make(home, model, InMemoryStore()) as bot:
        await bot.run("go", session_key="a", max_budget=Budget(tokens=16_000))
        result = await go_on(bot, max_budget=Budget(tokens=30_000))
        assert result.stop_reason == "completed"


async def test_a_sessions_budget_counts_a_parked_turn_once(home: Path) -> None:
    store = InMemoryStore()
    model = steps("note", "pay", "pay")
    async with make(home, model, store, sessions={"maxBudget": {"tokens": 30_000}}) as bot:

        def spent() -> int:
            snapshot = bot.sessions.get("a")
            assert snapshot is not None
            tokens = snapshot.metadata["spent"]["tokens"]
            assert isinstance(tokens, int)
            return tokens

        await bot.run("go", session_key="a")
        assert spent() == 2 * 3100
        await go_on(bot)
        assert spent() == 3 * 3100
        await go_on(bot)
        assert spent() == 4 * 3100
        await bot.run("and now?", session_key="a")
        assert spent() == 5 * 3100


@pytest.mark.parametrize("resumes", [True, False])
async def test_what_a_turn_had_spent_when_its_process_died_is_not_forgotten(
    home: Path, resumes: bool
) -> None:
    """As if the process had died right after the tool of the first answer: nothing was noted, but in the open turn."""
    store = InMemoryStore()
    left: list[bytes] = []

    @tool
    async def die(what: str) -> str:
        """Look at what a crash would leave."""
        left.extend(body for _, body in store.list_slips(OPEN_TURN, key="a"))
        raise RuntimeError("no")

    options = {"sessions": {"maxBudget": {"tokens": 1_000_000}}, "resumable": True}
    async with make(home, steps("note", "die"), store, **options) as bot:
        await bot.run("go", session_key="a", tools=[die])
    turn = open_turn_from_bytes(left[0])
    assert len(turn.spent.attempts) == 2
    assert turn.tools_used == ("note",)
    assert turn.session_spent == (0, 0.0)

    crashed = InMemoryStore()
    async with make(home, lambda _: Answer("Done.", usage=USAGE), crashed, **options) as bot:
        await bot.sessions.ingest("a", [{"role": "user", "content": "go"}])
        async with open_lease(crashed, "a") as leased:
            await crashed.append(leased.lease, slips={OPEN_TURN: left[0]})
        if resumes:
            result = await bot.resume("a")
            assert result.usage["total_tokens"] == 3 * 3100
            assert result.tools_used == ["note"]
        else:
            result = await bot.run("And?", session_key="a")
            assert result.usage["total_tokens"] == 3100
        snapshot = bot.sessions.get("a")
    assert snapshot is not None
    assert snapshot.metadata["spent"]["tokens"] == 3 * 3100


def test_what_was_noted_of_a_turn_and_what_it_kept_itself_agree() -> None:
    attempt = Attempt("p", "m", 0, "answered", accepted=True, usage=USAGE, cost_usd=0.5)
    left = OpenTurn(spent=Ledger((attempt,)), session_spent=(1000, 1.0))
    for noted in (Spent(1000, 1.0), Spent(4100, 1.5)):  # it died before it noted it, or after
        assert spent_before(noted, left, goes_on=True) == Spent(1000, 1.0)
        assert spent_before(noted, left, goes_on=False) == Spent(4100, 1.5)
    assert spent_before(Spent(7, 0.1), OpenTurn(), goes_on=True) == Spent(7, 0.1)


def test_a_ledger_survives_being_written_down() -> None:
    tally = Tally(estimate_by_length)
    tally.attempts = [
        Attempt("p", "m", None, "failed", error="RateLimited"),
        Attempt("p", "m", 0, "answered", True, USAGE, estimated=True, cost_usd=0.5),
        Attempt("p", "m", 1, "answered", True, USAGE, cost_usd=None),
    ]
    tally.subagents, tally.subagent_usage = 2, Usage(1, 2, 3)
    turn = open_turn_from_bytes(json_bytes(OpenTurn(spent=tally.to_ledger())))
    other = Tally(estimate_by_length)
    other.go_on_from(turn.spent)
    assert other.to_metadata() | {"resumed": None} == {
        **tally.to_metadata(),
        "request_count": 2,
        "resumed": None,
    }
    assert (other.usage, other.estimated) == (USAGE + USAGE, True)
    assert (other.subagents, other.subagent_usage) == (2, Usage(1, 2, 3))


def test_a_turn_that_an_older_version_kept_counts_from_zero() -> None:
    waiting = {
        "id": "x",
        "index": 0,
        "request": {"name": "pay"},
        "asked_at": 1.0,
        "expires_at": 2.0,
    }
    old = {"options": {"channel": "cli"}, "iteration": 3, "waiting": waiting}
    turn = open_turn_from_bytes(msgspec.json.encode(old))
    assert isinstance(turn.waiting, WaitingApproval)
    assert turn.spent == Ledger()


def test_a_kept_turn_that_is_nested_too_deep_is_told() -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        open_turn_from_bytes(b'{"x": ' + b"[" * 90_000)
