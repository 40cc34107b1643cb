"""Budgets of runs and sessions: a run stops before the call that could pass one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot import Budget, Nanobot, RunResult
from nanobot.errors import ConfigError, InvalidArgument
from nanobot.messages import Usage
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider
from tests.agent.stage import check_events

CALL = [("list_dir", {"path": "."})]
LOOP = Answer("look. ", tool_calls=CALL, usage=Usage(3000, 100, 3100))


def bot_with(
    tmp_path: Path, provider: ScriptedProvider, *, sessions: Any = None, **defaults: Any
) -> Nanobot:
    config = {
        "agents": {"defaults": {"model": "openai/gpt-4.1", "maxTokens": 500, **defaults}},
        "providers": {"openai": {"apiKey": "sk-none"}},
        "sessions": sessions or {},
        "tools": {"exec": {"enable": False}, "web": {"enable": False}},  # prompts of a known size
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return Nanobot.from_config(path, workspace=tmp_path / "workspace", provider=provider)


def check_stopped(result: RunResult, provider: ScriptedProvider, calls: int) -> None:
    assert result.stop_reason == "budget"
    assert result.error is not None
    assert "budget" in result.error
    assert provider.request_count == len(result.metadata["attempts"]) == calls


async def test_a_run_stops_before_the_call_that_could_pass_its_budget(tmp_path: Path) -> None:
    provider = ScriptedProvider(lambda _: LOOP)
    async with bot_with(tmp_path, provider) as bot:
        run = await bot.run_streamed("go", max_budget=Budget(tokens=10_000))
        events = [event async for event in run.stream_events()]
        result = await run.wait()
        check_stopped(result, provider, calls=3)  # a fourth one would make 12,400
        assert result.usage["total_tokens"] == 9300
        check_events(events)
        assert (events[-1].type, events[-1].metadata["reason"]) == ("run.failed", "budget")
        assert result.tools_used == ["list_dir"] * 3
        again = await bot.run("go on", max_budget=Budget(tokens=50_000), max_iterations=1)
        assert again.stop_reason == "max_iterations"  # the session goes on


async def test_money_is_a_budget_too(tmp_path: Path) -> None:
    provider = ScriptedProvider(lambda _: LOOP, "openai")
    async with bot_with(tmp_path, provider, maxBudget={"usd": 0.02}) as bot:
        result = await bot.run("go")
        check_stopped(result, provider, calls=len(provider.requests))
        # each call is 3,000 * 2 + 100 * 8 millionths of a dollar
        assert (provider.request_count, result.metadata["cost"]) == (2, pytest.approx(0.0136))


async def test_an_answer_is_cut_where_the_budget_ends(tmp_path: Path) -> None:
    def answer(request: ModelRequest) -> Answer:
        assert request.max_tokens is not None
        prompt = 3000
        usage = Usage(prompt, request.max_tokens, prompt + request.max_tokens)
        return Answer("so far ", finish_reason="length", usage=usage)

    provider = ScriptedProvider(answer)
    async with bot_with(tmp_path, provider) as bot:
        result = await bot.run("hi", max_budget=Budget(tokens=6_900))
        assert [request.max_tokens for request in provider.requests] == [500, 400]
        assert (result.content, result.stop_reason) == ("so far so far ", "budget")
        assert result.usage["total_tokens"] == 6_900


async def test_a_session_has_a_budget_across_runs_and_bots(tmp_path: Path) -> None:
    provider = ScriptedProvider(lambda _: Answer("ok", usage=Usage(3000, 100, 3100)))
    sessions = {"maxBudget": {"tokens": 10_000}, "store": "sqlite"}
    async with bot_with(tmp_path, provider, sessions=sessions) as bot:
        for spent in (3100, 6200, 9300):
            assert (await bot.run("hi", session_key="one")).error is None
            snapshot = bot.sessions.get("one")
            assert snapshot is not None
            assert snapshot.metadata["spent"]["tokens"] == spent
        stopped = await bot.run("hi", session_key="one")
        assert (stopped.stop_reason, provider.request_count) == ("budget", 3)
        assert (await bot.run("hi", session_key="another")).error is None
        looking = await bot.run("hi", session_key="one", ephemeral=True)
        assert looking.stop_reason == "budget"


async def test_without_a_session_budget_nothing_is_noted(tmp_path: Path) -> None:
    async with bot_with(tmp_path, ScriptedProvider(["ok"])) as bot:
        await bot.run("hi", session_key="one")
        snapshot = bot.sessions.get("one")
        assert snapshot is not None
        assert "spent" not in snapshot.metadata


async def test_a_budget_that_is_none_is_refused(tmp_path: Path) -> None:
    async with bot_with(tmp_path, ScriptedProvider([])) as bot:
        with pytest.raises(InvalidArgument, match=r"Budget\(tokens=50_000\)"):
            await bot.run("hi", max_budget=5000)  # type: ignore[call-overload]  # that is the point
    with pytest.raises(ConfigError, match="maxBudget"):
        bot_with(tmp_path, ScriptedProvider([]), maxBudget={"tokens": 0})
