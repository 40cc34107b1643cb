"""Subagents: what they are given, when their results come, what bounds them, and that none outlives its run."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from nanobot import ApprovalRequest, Budget, Nanobot, RunContext, RunResult, tool
from nanobot.agent import AgentHook, AgentHookContext, HookToolCall
from nanobot.errors import RequestRejected
from nanobot.messages import (
    AssistantMessage,
    Message,
    ToolMessage,
    Usage,
    UserMessage,
    check,
    messages_from_openai,
)
from nanobot.providers import ModelRequest
from nanobot.testing import Answer, ScriptedProvider, no_leaks
from nanobot.tools import Tool
from tests.agent.stage import check_events
from tests.sdk.bots import NOTHING, rest_of

if TYPE_CHECKING:
    from tests.sdk.conftest import Host

Step = str | int | list[Any]
"""What the model does in one answer: says something, says nothing before it was asked so many times, or calls tools."""


def do(*steps: Step) -> str:
    """A message, or a task, that tells the scripted model what to do, answer after answer."""
    return f"DO {json.dumps(steps)} DONE"


def spawn(*steps: Step, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """A call that gives such a task to a subagent."""
    return "spawn", {"task": do(*steps), **arguments}


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - nobody tells of what is waited for here
        await trio.sleep(0.001)


class Model:
    """Follows the last instruction there is; every request must be one that providers accept."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, request: ModelRequest) -> Answer | str:
        self.asked += 1
        step = step_of(request)
        if isinstance(step, int):
            times = step
            await until(lambda: self.asked >= times)
            step = "rested"
        if isinstance(step, str):
            if step == "fail":
                raise RequestRejected("no", provider="scripted")
            return Answer([step])
        return Answer(tool_calls=[(name, arguments) for name, arguments in step])


def step_of(request: ModelRequest) -> Step:
    assert check(request.messages) == (), request.messages
    steps: list[Step] = []
    done = 0
    for message in request.messages:
        text = str(message.content)
        if isinstance(message, UserMessage) and "DO [" in text and "that you started" not in text:
            steps = json.loads(text.partition("DO ")[2].rpartition(" DONE")[0])
            done = 0
        done += isinstance(message, AssistantMessage)
    return steps[min(done, len(steps) - 1)]


class Yard:
    """Tools that show who is at work."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.keys: list[str] = []
        self.deps: list[Any] = []
        self.live_runs: Callable[[], int] = lambda: 0

    @tool(on_host=False)
    async def meet(self) -> str:
        """Work until two are at work."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await until(lambda: self.most >= 2)
            await trio.sleep(0.005)
        finally:
            self.now -= 1
        return "met"

    @tool(on_host=False)
    async def outwait(self) -> str:
        """Work until nobody else does."""
        await until(lambda: self.live_runs() == 1)
        return "alone"

    @tool(on_host=False)
    async def work(self, context: RunContext, seconds: float = 0.0) -> str:
        """Work for a while."""
        self.keys.append(context.session_key)
        self.deps.append(context.deps)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(seconds)
        finally:
            self.now -= 1
        return f"worked {seconds}"


def make(home: Path, yard: Yard, *, options: dict[str, Any] | None = None, **more: Any) -> Nanobot:
    path = home / "config.json"
    defaults = {"model": "openai/m", "workspace": str(home / "workspace"), **more}
    config = {"agents": {"defaults": defaults}, "providers": {"openai": {"apiKey": "sk-test"}}}
    path.write_text(json.dumps(config))
    tools: list[Tool] = [yard.work, yard.meet, yard.outwait]
    given = {"provider": ScriptedProvider(Model()), **(options or {})}
    bot = Nanobot.from_config(path, tools=tools, **given)

    def live_runs() -> int:
        assert bot._engine.runtime is not None
        return bot._engine.runtime.live_runs

    yard.live_runs = live_runs
    return bot


def history(result: RunResult[Any]) -> list[Message]:
    found = list(messages_from_openai(result.messages[1:]))
    assert check(found) == ()
    return found


def tool_texts(result: RunResult[Any]) -> list[str]:
    return [str(m.content) for m in history(result) if isinstance(m, ToolMessage)]


def reports(result: RunResult) -> list[str]:
    """The notes that subagents brought, each without its first line."""
    texts = [str(m.content) for m in history(result) if isinstance(m, UserMessage)]
    return [text.partition("\n\n")[2] for text in texts if "that you started" in text]


# What it is given, and what comes back


def test_a_task_that_is_waited_for_is_a_result_and_leaves_no_trace(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            call = spawn([("work", {})], "42", wait=True)
            result = await bot.run(do([call], "so be it"), session_key="a", deps="mine")
            assert (result.content, result.tools_used) == ("so be it", ["spawn"])
            assert tool_texts(result) == ["42"]
            assert yard.deps == ["mine"]
            assert re.fullmatch(r"a/subagent/[0-9a-f]{8}", yard.keys[0])
            assert [info.key for info in bot.sessions.list()] == ["a"]
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_subagent_answers_in_words_whatever_its_run_is_asked_for(home: Path) -> None:
    with make(home, Yard()) as bot:
        call = spawn("found it", wait=True)
        result = bot.run_sync(do([call], "[1, 2]"), output_type=list[int])
    assert (result.output, result.error) == ([1, 2], None)
    assert tool_texts(result) == ["found it"]


def test_what_was_not_waited_for_comes_before_the_turn_ends(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard, maxConcurrentSubagents=2) as bot:
            calls = [spawn(4, "never said", label="one"), spawn(4, label="two")]
            events = [
                event
                async for event in bot.stream(
                    do(calls, "I wait for them.", "Both are there."), session_key="a"
                )
            ]
            check_events(events)
            result = events[-1].result
            assert result is not None
            assert result.content == "Both are there."
            assert reports(result) == ["rested", "rested"]
            texts = [e.content for e in events if e.type == "text.completed"]
            assert texts == ["", "I wait for them.", "Both are there."]
            snapshot = bot.sessions.get("a")
            assert snapshot is not None
            roles = [message["role"] for message in snapshot.messages]
            assert roles == [
                "user",
                "assistant",
                "tool",
                "tool",
                "assistant",
                "user",
                "user",
                "assistant",
            ]
            assert [message.get("injected_event") for message in snapshot.messages][5:7] == [
                "subagent_result"
            ] * 2
            known = await bot.run(do("I know."), session_key="a")
            assert known.content == "I know."

    host.run(story)


def test_what_has_ended_is_shown_before_the_next_answer(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            early = spawn(
                3
            )  # not before the run asks again: the first request is its own, the second the subagent's
            result = await bot.run(do([early], [("outwait", {})], [("work", {})], "done"))
            kinds = [type(message).__name__ for message in history(result)]
            assert kinds[5] == "UserMessage"  # behind the first `work`, before the second
            assert reports(result) == ["rested"]
            assert result.metadata["iterations"] == 4

    trio.run(story)


def test_usage_rolls_up_and_is_marked(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            plain = await bot.run(do([("work", {})], "done"), session_key="a")
            assert "subagents" not in plain.metadata
            call = spawn([("work", {})], "x", wait=True)
            result = await bot.run(do([call, spawn("y")], "done", "done"), session_key="b")
            assert result.metadata["request_count"] == result.metadata["iterations"] + 2 + 1
            marked = result.metadata["subagents"]
            assert marked["runs"] == 2
            per_request = plain.usage["total_tokens"] // 2
            assert marked["usage"]["total_tokens"] == 3 * per_request
            assert result.usage["total_tokens"] == per_request * result.metadata["request_count"]
            assert len(result.metadata["attempts"]) == result.metadata["request_count"]

    trio.run(story)


@pytest.mark.parametrize("wait", [False, True])
def test_subagents_draw_on_the_budget_of_their_run(wait: bool, home: Path) -> None:
    """None of them may spend what another has spent, nor all together more than one run may."""

    def answer(request: ModelRequest) -> Answer:
        usage = Usage(3000, 100, 3100)  # of a prompt that is smaller
        if "You are a subagent" in str(request.messages[-1].content) or len(request.messages) > 3:
            return Answer("look. ", tool_calls=[("work", {})], usage=usage)
        tasks = [("spawn", {"task": f"{n}", "wait": wait}) for n in range(3)]
        return Answer(tool_calls=tasks, usage=usage)

    async def story() -> None:
        provider = ScriptedProvider(answer)
        options = {"provider": provider}
        async with make(
            home, Yard(), options=options, maxConcurrentSubagents=3, maxTokens=500
        ) as bot:
            result = await bot.run("go", max_budget=Budget(tokens=20_000))
            assert result.stop_reason == "budget"
            assert 15_500 <= result.usage["total_tokens"] <= 20_000
            assert provider.request_count == result.metadata["request_count"]

    trio.run(story)


def test_a_subagent_that_fails_is_an_error_for_the_model_and_the_run_goes_on(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            calls = [spawn("fail", wait=True), spawn("fail", label="bg")]
            result = await bot.run(do(calls, "went on", "went on"))
            assert (result.content, result.error, result.tools_used) == ("went on", None, ["spawn"])
            assert tool_texts(result)[0] == "Error: The subagent failed (no)."
            (note,) = (m for m in result.messages if "that you started" in str(m["content"]))
            assert "'bg'" in note["content"]
            assert "failed (no)" in note["content"]

    trio.run(story)


def test_a_report_that_is_too_long_is_cut_and_kept(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard, maxToolResultChars=1000) as bot:
            result = await bot.run(do([spawn("word " * 1000)], "wait", "done"), session_key="a")
            (report,) = reports(result)
            assert len(report) < 1500
            path = re.search(r"in the file (\S+):", report)
            assert path is not None
            text = await trio.Path(home / "workspace" / path[1]).read_text()
            assert text == "word " * 1000

    trio.run(story)


# Bounds


def test_no_more_work_at_once_than_allowed_and_the_rest_wait(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard, maxConcurrentSubagents=2) as bot:
            calls = [spawn([("meet", {})], str(n)) for n in range(6)]
            result = await bot.run(do(calls, "wait", "done"))
            assert sorted(reports(result)) == list("012345")
            assert yard.most == 2

    host.run(story)


def test_a_model_that_has_lost_count_is_told(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            result = await bot.run(do([spawn(3)] + [spawn("x")] * 65, "wait", "done"))
            assert "64 subagents are at work" in tool_texts(result)[-1]
            assert len(reports(result)) == 64

    trio.run(story)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_subagents_start_others_only_as_deep_as_allowed(depth: int, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        more: dict[str, Any] = {"maxSubagentDepth": depth, "maxConcurrentSubagents": 3}
        async with make(home, yard, **more) as bot:
            assert ("spawn" in bot.tools) == (depth > 0)
            innermost = spawn([("work", {})], "inner", wait=True)
            middle = spawn([innermost], "middle", wait=True)
            result = await bot.run(do([middle], "done"))
            assert result.content == "done"
            assert len(yard.keys) == (depth == 2)
            if depth:
                assert tool_texts(result) == ["middle"]
                assert result.metadata["subagents"]["runs"] == depth
            else:
                assert "no tool called 'spawn'" in tool_texts(result)[0]

    trio.run(story)


def test_inside_a_subagent_nobody_waits_for_a_place(home: Path) -> None:
    """It could be the place of one that waits for it."""

    async def story() -> None:
        yard = Yard()
        async with make(home, yard, maxSubagentDepth=2, maxConcurrentSubagents=1) as bot:
            middle = spawn([spawn("never", wait=True)], "middle", wait=True)
            result = await bot.run(do([middle], "done"), timeout_s=20)
            assert (result.content, tool_texts(result)) == ("done", ["middle"])
            assert result.metadata["subagents"]["runs"] == 1

    trio.run(story)


def test_in_the_last_answer_a_run_may_give_everything_is_in(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            result = await bot.run(do([spawn(2)], "the end"), max_iterations=1)
            assert (result.content, result.stop_reason) == ("the end", "max_iterations")
            assert reports(result) == ["rested"]

    trio.run(story)


# Who guards it


class Witness(AgentHook):
    def __init__(self, deny: bool) -> None:
        super().__init__()
        self.points: list[str] = []
        self.deny = deny

    def wants_streaming(self) -> bool:
        return True

    async def before_run(self, context: AgentHookContext) -> None:
        self.points.append(f"before_run {context.session_key[:10]}")

    async def on_stream(self, context: AgentHookContext, delta: str) -> None:
        self.points.append(f"stream {delta}")

    async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
        self.points.append(f"{call.name} {context.session_key[:10]}")
        if self.deny and call.name == "work":
            call.deny("not here")

    def finalize_content(self, context: AgentHookContext, content: str) -> str:
        return content.upper()


@pytest.mark.parametrize("of", ["bot", "run"])
def test_hooks_guard_a_subagents_tools_and_leave_its_answer_alone(
    of: str, host: Host, home: Path
) -> None:
    async def story() -> None:
        yard, witness = Yard(), Witness(deny=True)
        options = {"hooks": [witness]} if of == "bot" else {}
        async with make(home, yard, options=options) as bot:
            result = await bot.run(
                do([spawn([("work", {})], "inner", wait=True)], "outer"),
                session_key="a",
                hooks=[witness] if of == "run" else None,
            )
            assert (result.content, yard.keys) == ("OUTER", [])
            assert tool_texts(result) == ["inner"]
            assert witness.points == [
                "before_run a",
                "spawn a",
                "work a/subagent",
                "stream outer",
            ]

    host.run(story)


def test_a_subagents_tools_ask_the_runs_approver(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        asked: list[str] = []

        @tool(approval="ask")
        async def pay() -> str:
            return "paid"

        async def approver(request: ApprovalRequest) -> bool:
            asked.append(f"{request.name} {request.session_key[:11]}")
            return False

        async with make(home, yard) as bot:
            await bot.run(
                do([spawn([("pay", {})], "inner", wait=True)], "outer"),
                session_key="a",
                tools=[pay],
                approver=approver,
            )
            assert asked == ["pay a/subagent/"]

    host.run(story)


# Its end


@pytest.mark.parametrize("wait", [True, False])
def test_a_subagent_ends_with_the_run_that_is_cancelled(wait: bool, host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            message = do([spawn([("work", {"seconds": 60})], wait=wait)], "wait", "done")
            run = await bot.run_streamed(message, session_key="a")
            while not yard.now:
                await host.sleep(0.01)
            await run.cancel()
            assert yard.now == 0
            result = await run.wait()
            assert result.stop_reason == "cancelled"
            assert result.metadata["subagents"]["runs"] == 1
            assert (await rest_of(bot)) == NOTHING
            assert (await bot.run(do("fine"), session_key="a")).content == "fine"

    with no_leaks():
        host.run(story)


def test_a_run_out_of_time_ends_its_subagents_and_counts_them(home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            message = do([spawn([("work", {"seconds": 60})])], "wait", "done")
            result = await bot.run(message, timeout_s=3)  # the subagent is at work by then
            assert (result.stop_reason, yard.now) == ("timeout", 0)
            assert result.metadata["subagents"]["runs"] == 1
            assert result.metadata["request_count"] == 3

    trio.run(story)


def test_closing_the_bot_ends_all_of_them(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        bot = make(home, yard, maxConcurrentSubagents=4)
        calls = [spawn([("work", {"seconds": 60})]) for _ in range(8)]
        run = await bot.run_streamed(do(calls, "wait", "done"))
        while yard.now < 4:
            await host.sleep(0.01)
        await bot.aclose()
        assert yard.now == 0
        assert (await run.wait()).stop_reason == "cancelled"

    with no_leaks():
        host.run(story)


def test_an_override_run_shares_its_hold_with_its_subagents(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        async with make(home, yard) as bot:
            message = do([spawn([("work", {"seconds": 0.1})], "inner")], "wait", "done")

            async def override() -> None:
                result = await bot.run(message, session_key="a", model="openai/other", timeout_s=20)
                assert set(reports(result)) == {"inner"}

            async def other() -> None:
                assert (await bot.run(do("fine"), session_key="b")).content == "fine"

            await host.gather(override, other, other, override)

    host.run(story)


def random_message(rng: random.Random, depth: int = 2) -> str:
    """Something to do that may start subagents, which may start others."""

    def steps(depth: int) -> Iterator[Step]:
        for _ in range(rng.randint(1, 2)):
            calls: list[Any] = [("work", {"seconds": rng.uniform(0, 0.01)})]
            for _ in range(rng.randint(0, 3) if depth else 0):
                calls.append(spawn(*steps(depth - 1), wait=rng.random() < 0.4))
            rng.shuffle(calls)
            yield calls
        yield "done"

    return do(*steps(depth))


async def storm(host: Host, bot: Nanobot, yard: Yard, rounds: int, rng: random.Random) -> set[str]:
    reasons: set[str] = set()

    async def one(number: int) -> None:
        run = await bot.run_streamed(random_message(rng), session_key=f"s{number % 5}")
        if rng.random() < 0.7:
            await host.sleep(rng.uniform(0, 0.05))
            await run.cancel()
        result = await run.wait()
        history(result)
        reasons.add(str(result.stop_reason))

    for start in range(0, rounds, 10):
        stories: Sequence[Callable[[], Awaitable[None]]] = [
            lambda number=number: one(number)  # type: ignore[misc]  # mypy cannot infer the default
            for number in range(start, start + 10)
        ]
        await host.gather(*stories)  # type: ignore[arg-type]  # each is a coroutine function
        assert yard.now == 0
        assert await rest_of(bot) == NOTHING
    return reasons


def test_a_storm_of_cancels_leaves_no_subagent_alive(host: Host, home: Path) -> None:
    async def story() -> None:
        yard = Yard()
        more: dict[str, Any] = {"maxSubagentDepth": 2, "maxConcurrentSubagents": 3}
        async with make(home, yard, **more) as bot:
            reasons = await storm(host, bot, yard, 60, random.Random(random.getrandbits(64)))
            assert reasons == {"completed", "cancelled"}
            for key in range(5):
                snapshot = bot.sessions.get(f"s{key}")
                if snapshot is not None:
                    assert check(messages_from_openai(snapshot.messages)) == ()

    with no_leaks():
        host.run(story)
