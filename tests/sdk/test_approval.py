"""Approval through the SDK: who is asked, where, and what is stored of a call that nobody allowed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from nanobot import ApprovalRequest, Approved, Denied, Nanobot, tool
from nanobot.agent import AgentHook, AgentHookContext, HookToolCall
from nanobot.errors import ConfigError, InvalidArgument
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider, no_leaks

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

paid: list[int] = []


@tool(approval="ask", timeout_s=0.5)
async def pay(amount: int) -> str:
    """Pay somebody."""
    paid.append(amount)
    return f"paid {amount}"


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    paid.clear()


def answer(request: ModelRequest) -> Answer | str:
    last = request.messages[-1]
    if last.content and str(last.content).startswith("Pay"):
        return Answer(tool_calls=[("pay", {"amount": 5})])
    return f"I was told: {last.content}"


def make(home: Path, *, approval: dict[str, str] | None = None, **options: Any) -> Nanobot:
    path = home / "config.json"
    config = {
        "agents": {"defaults": {"model": "openai/m", "workspace": str(home / "workspace")}},
        "providers": {"openai": {"apiKey": "sk-test"}},
        "tools": {"approval": approval or {}},
    }
    path.write_text(json.dumps(config))
    provider = ScriptedProvider(answer)
    return Nanobot.from_config(path, provider=provider, tools=[pay], **options)


class Asked:
    """An approver that notes what it is asked, and where."""

    def __init__(self, decision: bool | Approved | Denied) -> None:
        self.requests: list[ApprovalRequest] = []
        self.threads: set[int] = set()
        self.decision = decision

    async def __call__(self, request: ApprovalRequest) -> bool | Approved | Denied:
        self.requests.append(request)
        self.threads.add(threading.get_ident())
        if not trio.lowlevel.in_trio_task():
            asyncio.get_running_loop()
        return self.decision


def test_the_runs_approver_is_asked_before_the_bots_in_the_callers_loop(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        of_bot, of_run = Asked(True), Asked(Denied("not today"))
        async with make(home, approver=of_bot) as bot:
            result = await bot.run("Pay 5", session_key="a")
            assert (result.tools_used, paid) == (["pay"], [5])
            result = await bot.run("Pay 5", session_key="b", approver=of_run)
            assert (result.tools_used, paid) == ([], [5])
            assert "not today" in result.content
            snapshot = bot.sessions.get("b")
            assert snapshot is not None
            assert "not today" in str(snapshot.to_dict())
        assert [request.session_key for request in of_bot.requests] == ["a"]
        assert of_run.requests == [
            ApprovalRequest(
                name="pay",
                arguments={"amount": 5},
                tool_call_id=of_run.requests[0].tool_call_id,
                session_key="b",
                description="Pay somebody.",
                iteration=0,
            )
        ]
        assert of_bot.threads | of_run.threads == {threading.get_ident()}

    with no_leaks():
        host.run(story)


def test_without_a_loop_a_plain_function_may_block_as_input_does(home: Path) -> None:
    threads: set[int] = set()

    def approver(request: ApprovalRequest) -> bool:
        threads.add(threading.get_ident())
        threading.Event().wait(0.6)  # longer than `pay` may take
        return request.arguments == {"amount": 5}

    with make(home, approver=approver) as bot:
        assert bot.run_sync("Pay 5").tools_used == ["pay"]
    assert threads == {threading.get_ident()}


def test_without_an_approver_the_call_is_denied_and_the_run_goes_on(host: Host, home: Path) -> None:
    async def story() -> None:
        async with make(home) as bot:
            kinds = [
                (event.type, event.metadata.get("outcome")) async for event in bot.stream("Pay")
            ]
            assert ("tool.failed", "denied") in kinds
            assert kinds[-1][0] == "run.completed"
            assert paid == []

    host.run(story)


def test_an_approver_that_raises_denies_and_hooks_see_why(host: Host, home: Path) -> None:
    outcomes: list[str] = []

    class Witness(AgentHook):
        async def after_execute_tool(
            self, context: AgentHookContext, call: HookToolCall, result: str, outcome: str
        ) -> None:
            outcomes.append(f"{outcome}: {result}")

    async def approver(_: ApprovalRequest) -> bool:
        raise LookupError("secret")

    async def story() -> None:
        async with make(home, approver=approver) as bot:
            result = await bot.run("Pay 5", hooks=[Witness()])
            assert (result.error, paid) == (None, [])
            assert "secret" not in result.content

    host.run(story)
    (outcome,) = outcomes
    assert outcome.startswith("denied: Error: This call was not allowed, and not run: asking for")
    assert "LookupError" in outcome


def test_a_run_that_is_cancelled_while_somebody_thinks_leaves_the_call_unstarted(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        ended: list[bool] = []
        asked: list[Callable[[], Any]] = []

        async def thinks(_: ApprovalRequest) -> bool:
            asked[0]()
            try:
                await host.sleep(30)
            finally:
                ended.append(True)
            return True

        async with make(home, approver=thinks) as bot:
            run = await bot.run_streamed("Pay 5", session_key="a")
            event = asyncio.Event() if host.name == "asyncio" else trio.Event()
            asked.append(event.set)
            await event.wait()
            await run.cancel()
            assert ended == [True]
            result = await run.wait()
            assert result.stop_reason == "cancelled"
            assert "cancelled before this call started" in str(result.messages[-1])
            assert paid == []
            well = await bot.run("Well?", session_key="a")
            assert well.content.startswith("I was told: Well?")

    with no_leaks():
        host.run(story)


def test_an_approver_whose_own_loop_gave_up_on_it_denies(home: Path) -> None:
    async def story() -> None:
        async def gives_up(_: ApprovalRequest) -> bool:
            raise asyncio.CancelledError

        async with make(home, approver=gives_up) as bot:
            result = await bot.run("Pay 5")
            assert (result.error, result.tools_used, paid) == (None, [], [])

    asyncio.run(story())


def test_the_configuration_says_before_which_tools_somebody_is_asked(
    host: Host, home: Path
) -> None:
    async def story() -> None:
        async with make(home, approval={"pay": "never"}) as bot:
            assert (await bot.run("Pay 5")).tools_used == ["pay"]
        asked = Asked(False)
        async with make(home, approval={"p*": "ask", "pay": "ask"}, approver=asked) as bot:
            assert (await bot.run("Pay 5")).tools_used == []
        assert len(asked.requests) == 1

    host.run(story)


def test_a_configuration_that_says_something_else_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"tools\.approval\.pay"):
        make(home, approval={"pay": "always"})


def test_an_approver_that_cannot_be_called_is_refused_before_anything_happens(home: Path) -> None:
    wrong: Any = True
    with pytest.raises(InvalidArgument, match="approver must be a function"):
        make(home, approver=wrong)
    with make(home) as bot, pytest.raises(InvalidArgument, match="approver must be a function"):
        bot.run_sync("Pay 5", approver=wrong)


def test_a_rule_whose_tool_does_not_exist_is_reported_once(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = {"pya": "ask", "pay": "ask", "write_file": "ask", "*": "never", "mcp_files_read": "ask"}
    with make(home, approval=rules) as bot:
        for _ in range(2):
            trio.run(bot.run, "Well?")
    (record,) = (record for record in caplog.records if record.name == "nanobot.tools")
    assert record.getMessage() == (
        "tools.approval: there is no tool called 'pya' (did you mean 'pay'?)"
    )
