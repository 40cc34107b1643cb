"""Turns that wait in the store for an approval, or were interrupted by a crash, and go on in another bot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from nanobot import ApprovalRequest, Approved, Denied, Nanobot, Park, RunResult, tool
from nanobot.agent import AgentHook, AgentHookContext, HookToolCall, OpenCalls, OpenTurn
from nanobot.errors import ApprovalGone, InvalidArgument, NoOutput, NothingToResume, StoreError
from nanobot.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
    messages_from_openai,
)
from nanobot.providers import ModelRequest
from nanobot.sessions import InMemoryStore, Position, open_lease
from nanobot.testing import Answer, ScriptedProvider, no_leaks
from tests.sdk.bots import NOTHING, rest_of

if TYPE_CHECKING:
    from tests.sdk.conftest import Host


class Shop:
    """Tools with effects, and a model that calls those that the user names, then says what came of them."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.requests: list[ModelRequest] = []

    async def __call__(self, request: ModelRequest) -> Answer | str:
        assert check(request.messages) == (), request.messages
        self.requests.append(request)
        last = request.messages[-1]
        if isinstance(last, UserMessage) and str(last.content).startswith("do "):
            names = str(last.content).partition("\n")[0].split()[1:]
            calls = [(name.partition(":")[0], {"what": name.partition(":")[2]}) for name in names]
            return Answer("On it. ", tool_calls=calls)
        results = [f"{m.name}={m.outcome}" for m in request.messages if isinstance(m, ToolMessage)]
        return "; ".join(results) or "hello"

    @tool
    async def note(self, what: str) -> str:
        """Note something."""
        self.done.append(f"note {what}")
        return "noted"

    @tool(read_only=True)
    async def look(self, what: str) -> str:
        """Look at something."""
        self.done.append(f"look {what}")
        return "seen"

    @tool(approval="ask")
    async def pay(self, what: str) -> str:
        """Pay."""
        self.done.append(f"pay {what}")
        return f"paid {what}"

    @tool(approval="ask", read_only=True)
    async def peek(self, what: str) -> str:
        """Look at what is private."""
        self.done.append(f"peek {what}")
        return "private"


def make(
    home: Path,
    shop: Shop,
    store: InMemoryStore | None,
    *,
    tools_config: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    **defaults: Any,
) -> Nanobot:
    path = home / "config.json"
    settings = {"model": "openai/m", "workspace": str(home / "workspace"), **defaults}
    config = {
        "agents": {"defaults": settings},
        "providers": {"openai": {"apiKey": "sk-test"}},
        "tools": tools_config or {},
        "sessions": {"durability": "fast"},
    }
    path.write_text(json.dumps(config))
    return Nanobot.from_config(
        path,
        provider=ScriptedProvider(shop),
        store=store,
        tools=[shop.note, shop.look, shop.pay, shop.peek],
        **(options or {}),
    )


def stored(bot: Nanobot, key: str = "a") -> list[dict[str, Any]]:
    snapshot = bot.sessions.get(key)
    assert snapshot is not None
    assert check(messages_from_openai(snapshot.messages)) == ()
    return snapshot.messages


def outcomes(messages: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{message['name']} {message.get('outcome', 'ok')}"
        for message in messages
        if message["role"] == "tool"
    ]


async def test_a_parked_turn_goes_on_in_another_bot_and_nothing_is_run_twice(
    home: Path,
) -> None:
    shop = Shop()
    async with make(home, shop, None) as first:
        result = await first.run("do note:1 pay:5 note:2", session_key="a", approver=Park())
        assert (result.stop_reason, result.error, result.content) == ("parked", None, "On it. ")
        assert result.tools_used == ["note"]
        assert result.metadata["approval"]["arguments"] == {"what": "5"}
        assert shop.done == ["note 1"]
        assert [m["role"] for m in stored(first)] == ["user"]
        (waiting,) = first.approvals.list()
        assert waiting.id == result.metadata["approval"]["id"]
        assert (waiting.name, waiting.session_key, waiting.state) == ("pay", "a", "waiting")
        with pytest.raises(NothingToResume, match="waits for a decision") as early:
            await first.resume("a")
        assert early.value.approval_id == waiting.id
    async with make(home, shop, None) as second:
        assert second.approvals.get(waiting.id) == waiting
        assert second.approvals.approve(waiting.id).state == "approved"
        result = await second.resume("a")
        assert result.content == "note=ok; pay=ok; note=ok"
        assert result.tools_used == ["note", "pay", "note"]
        assert shop.done == ["note 1", "pay 5", "note 2"]
        assert second.approvals.list() == []
        assert outcomes(stored(second)) == ["note ok", "pay ok", "note ok"]
        with pytest.raises(NothingToResume, match="has ended"):
            await second.resume("a")
        # The turn after sees a prefix that is the same, byte for byte.
        seen = shop.requests[-1].messages
        await second.run("hello", session_key="a")
        assert list(shop.requests[-1].messages)[: len(seen)] == list(seen)


def test_the_flow_is_the_same_under_every_host(host: Host, home: Path) -> None:
    async def story() -> None:
        shop, store = Shop(), InMemoryStore()

        async def approver(request: ApprovalRequest) -> Park:
            return Park(expires_s=60)

        async with make(home, shop, store, options={"approver": approver}) as bot:
            events = [event async for event in bot.stream("do pay:1 pay:2", session_key="a")]
            ends = [event for event in events if event.type in ("tool.failed", "run.completed")]
            assert [event.metadata.get("outcome") for event in ends] == ["parked", None]
            assert ends[1].result is not None
            assert ends[1].result.stop_reason == "parked"
            # Its last event comes before its actor lets go of the lock.
            while await rest_of(bot) != NOTHING:
                await host.sleep(0.001)
            (first,) = bot.approvals.list("a")
            bot.approvals.approve(first.id)
            stream = await bot.resume_streamed("a")
            events = [event async for event in stream.stream_events()]
            assert events[0].type == "run.started"
            assert [e.type for e in events if e.type.startswith("tool")] == [
                "tool.started",
                "tool.completed",
                "tool.started",
                "tool.failed",
            ]
            assert shop.done == ["pay 1"]
            (second,) = bot.approvals.list("a")
            assert second.id != first.id
            assert bot.approvals.deny(second.id, "too much").reason == "too much"
            result = await bot.resume("a")
            assert result.content == "pay=ok; pay=denied"
            assert "too much" in str(stored(bot)[-2]["content"])
            assert shop.done == ["pay 1"]
            assert (await rest_of(bot)) == NOTHING

    with no_leaks():
        host.run(story)


def test_a_program_without_a_loop_parks_and_resumes(home: Path) -> None:
    shop = Shop()
    with make(home, shop, None, tools_config={"parkForApproval": True}) as bot:
        assert bot.run_sync("do pay:1", session_key="a").stop_reason == "parked"
        bot.approvals.approve(bot.approvals.list()[0].id)
        assert bot.resume_sync("a").content == "pay=ok"
        assert shop.done == ["pay 1"]


async def test_a_decision_is_made_once_and_in_time(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        await bot.run("do pay:1", session_key="a", approver=Park())
        (waiting,) = bot.approvals.list()
        bot.approvals.approve(waiting.id)
        for decide in (bot.approvals.approve, bot.approvals.deny):
            with pytest.raises(ApprovalGone) as gone:
                decide(waiting.id)
            assert gone.value.reason == "decided"
        await bot.resume("a")
        with pytest.raises(ApprovalGone) as gone:
            bot.approvals.approve(waiting.id)
        assert gone.value.reason == "unknown"
        assert shop.done == ["pay 1"]

        await bot.run("do pay:2", session_key="b", approver=Park(expires_s=1e-6))
        (late,) = bot.approvals.list("b")
        assert late.state == "expired"
        with pytest.raises(ApprovalGone) as gone:
            bot.approvals.approve(late.id)
        assert gone.value.reason == "expired"
        assert (await bot.resume("b")).content == "pay=denied"
        assert shop.done == ["pay 1"]
        with pytest.raises(InvalidArgument):
            bot.approvals.approve(7)  # type: ignore[arg-type]


async def test_of_many_who_decide_at_once_one_does(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, None) as bot:
        await bot.run("do pay:1", session_key="a", approver=Park())
        (waiting,) = bot.approvals.list()
        decided: list[str] = []

        def decide() -> None:
            try:
                decided.append(bot.approvals.approve(waiting.id).state)
            except ApprovalGone:
                decided.append("gone")

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(trio.to_thread.run_sync, decide)
        assert sorted(decided) == ["approved"] + ["gone"] * 7
        results: list[RunResult | Exception] = []

        async def resume() -> None:
            try:
                results.append(await bot.resume("a"))
            except NothingToResume as error:
                results.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(resume)
        assert sum(isinstance(result, RunResult) for result in results) == 1
        assert shop.done == ["pay 1"]


async def test_a_new_message_gives_the_parked_turn_up_truthfully(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        await bot.run("do note:1 pay:1 note:2", session_key="a", approver=Park())
        (waiting,) = bot.approvals.list()
        bot.approvals.approve(waiting.id)
        assert (await bot.run("peek at it", session_key="a", ephemeral=True)).error is None
        assert len(bot.approvals.list()) == 1  # who leaves no trace takes nothing away
        result = await bot.run("never mind", session_key="a")
        assert result.content == "note=ok; pay=cancelled_before_start; note=cancelled_before_start"
        assert bot.approvals.list() == []
        with pytest.raises(ApprovalGone):
            bot.approvals.approve(waiting.id)
        assert shop.done == ["note 1"]
        for clear in (bot.sessions.clear, bot.sessions.delete):
            await bot.run("do pay:2", session_key="b", approver=Park())
            assert len(bot.approvals.list("b")) == 1
            clear("b")
            assert bot.approvals.list("b") == []


async def test_nothing_of_a_parked_turn_is_in_memory(mock_clock: MockClock, home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        await bot.run("do pay:1", session_key="a", approver=Park())
        assert bot._engine.runtime is not None
        maker = bot._blueprint.turn_maker(bot._engine.runtime)
        assert len(maker.sessions) == 1
        await wait_all_tasks_blocked(0.01)
        mock_clock.jump(31)
        await wait_all_tasks_blocked(0.01)
        statistics = bot.runtime.statistics()
        assert (statistics.live_sessions, statistics.live_runs) == (0, 0)
        assert len(maker.sessions) == 0
        bot.approvals.approve(bot.approvals.list()[0].id)
        assert (await bot.resume("a")).content == "pay=ok"


class Rewriter(AgentHook):
    """A hook that changes what is paid."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    async def before_execute_tool(self, context: AgentHookContext, call: HookToolCall) -> None:
        if call.name == "pay":
            call.arguments["what"] = self.what


async def test_what_was_approved_is_what_is_run_and_nothing_else(home: Path) -> None:
    shop, store = Shop(), InMemoryStore()
    async with make(home, shop, store) as bot:
        options: dict[str, Any] = {"session_key": "a", "approver": Park()}
        await bot.run("do pay:1", hooks=[Rewriter("2")], **options)
        (waiting,) = bot.approvals.list()
        assert waiting.arguments == {"what": "2"}
        bot.approvals.approve(waiting.id)
        again = await bot.resume("a", hooks=[Rewriter("3")], approver=Park())
        assert again.stop_reason == "parked"  # other arguments are another question
        (waiting,) = bot.approvals.list()
        assert (waiting.arguments, shop.done) == ({"what": "3"}, [])
        bot.approvals.approve(waiting.id)
        await bot.resume("a", hooks=[Rewriter("3")])
        assert shop.done == ["pay 3"]


async def test_calls_that_only_read_end_before_the_turn_is_parked(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        text = "do look:1 peek:1 look:2 peek:2"
        result = await bot.run(text, session_key="a", approver=Park())
        assert result.stop_reason == "parked"
        assert shop.done == ["look 1", "look 2"] or shop.done == ["look 1"]
        rounds = 0
        while result.stop_reason == "parked":
            (waiting,) = bot.approvals.list()
            bot.approvals.approve(waiting.id)
            result = await bot.resume("a", approver=Park())
            rounds += 1
        assert rounds == 2
        assert result.content == "look=ok; peek=ok; look=ok; peek=ok"
        assert sorted(shop.done) == ["look 1", "look 2", "peek 1", "peek 2"]


async def test_a_run_that_keeps_nothing_cannot_wait(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        result = await bot.run("do pay:1", session_key="a", ephemeral=True, approver=Park())
        assert result.content == "pay=denied"
        assert bot.approvals.list() == []
        # And without anybody to ask, a call is denied as it always was.
        assert (await bot.run("do pay:1", session_key="b")).content == "pay=denied"
        with pytest.raises(InvalidArgument, match="cannot be resumable"):
            await bot.run("x", ephemeral=True, resumable=True)


async def test_a_turn_goes_on_with_the_channel_and_the_model_that_it_began_with(
    home: Path,
) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        await bot.run(
            "do pay:1",
            session_key="a",
            channel="slack",
            model="openai/other",
            approver=Park(),
            max_iterations=1,
        )
        bot.approvals.approve(bot.approvals.list()[0].id)
        stream = await bot.resume_streamed("a")
        events = [event async for event in stream.stream_events()]
        started = events[0].metadata
        assert (started["channel"], started["model"]) == ("slack", "other")
        assert (await stream.wait()).stop_reason == "max_iterations"
        with pytest.raises(TypeError, match="unknown argument 'channel'"):
            await bot.resume("a", channel="x")  # type: ignore[call-arg]


async def test_an_approver_may_decide_some_and_park_others(home: Path) -> None:
    shop = Shop()

    def approver(request: ApprovalRequest) -> Approved | Denied | Park:
        amount = int(request.arguments["what"])
        return Approved() if amount < 10 else Park() if amount < 100 else Denied("no")

    async with make(home, shop, InMemoryStore(), options={"approver": approver}) as bot:
        result = await bot.run("do pay:5 pay:500 pay:50", session_key="a")
        assert result.stop_reason == "parked"
        assert result.tools_used == ["pay"]
        assert shop.done == ["pay 5"]
        bot.approvals.approve(bot.approvals.list()[0].id)
        assert (await bot.resume("a")).content == "pay=ok; pay=denied; pay=ok"
        assert shop.done == ["pay 5", "pay 50"]


async def test_what_steers_a_turn_that_parks_is_heard_when_it_goes_on(home: Path) -> None:
    shop = Shop()
    asked = trio.Event()
    go = trio.Event()

    async def approver(request: ApprovalRequest) -> Park:
        asked.set()
        await go.wait()
        return Park()

    async with make(home, shop, InMemoryStore(), options={"approver": approver}) as bot:
        results: list[RunResult] = []

        async def steer() -> None:
            await asked.wait()
            stream = await bot.run_streamed("and quickly", session_key="a", on_busy="steer")
            while stream.position != 1:  # noqa: ASYNC110 - no event tells of a place in a queue
                await trio.lowlevel.checkpoint()
            go.set()
            results.append(await stream.wait())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(steer)
            assert (await bot.run("do pay:1", session_key="a")).stop_reason == "parked"
        assert results[0].stop_reason == "parked"
        bot.approvals.approve(bot.approvals.list()[0].id)
        assert (await bot.resume("a")).content == "pay=ok"
        said = [str(m["content"]) for m in stored(bot) if m["role"] == "user"]
        assert said == ["do pay:1", "and quickly"]
        asked_last = [str(m.content).partition("\n")[0] for m in shop.requests[-1].messages]
        assert asked_last[-1] == "and quickly"


async def test_a_resumed_turn_that_fails_or_is_cancelled_is_over(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore()) as bot:
        await bot.run("do pay:1", session_key="a", approver=Park())
        bot.approvals.approve(bot.approvals.list()[0].id)
        stream = await bot.resume_streamed("a", timeout_s=1e-6)
        assert (await stream.wait()).stop_reason == "timeout"
        assert bot.approvals.list() == []
        assert shop.done == []
        assert outcomes(stored(bot)) == ["pay cancelled_before_start"]


@pytest.mark.parametrize("seed", range(10))
def test_cancelled_at_any_moment_a_call_is_run_once_or_said_to_be_unknown(
    host: Host, home: Path, seed: int
) -> None:
    async def story() -> None:
        shop, store = Shop(), InMemoryStore()
        async with make(home, shop, store, resumable=True) as bot:

            async def flow() -> None:
                await bot.run("do note:1 pay:1", session_key="a", approver=Park())
                for waiting in bot.approvals.list("a"):
                    bot.approvals.approve(waiting.id)
                await bot.resume("a")

            await host.cancel_after(seed * 0.002, flow)
            while bot._engine.runtime and (await rest_of(bot)) != NOTHING:
                await host.sleep(0)
            for waiting in bot.approvals.list("a"):
                if waiting.state == "waiting":
                    bot.approvals.approve(waiting.id)
            try:
                await bot.resume("a")
            except NothingToResume:
                pass
            assert shop.done.count("pay 1") <= 1
            assert shop.done.count("note 1") <= 1
            if bot.sessions.get("a") is not None:
                stored(bot)
            assert bot.approvals.list("a") == []

    with no_leaks():
        host.run(story)


# After a crash


class Dying(InMemoryStore):
    """A store that fails from its nth `append` on."""

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.fails_at = fails_at
        self.writes = 0

    async def append(self, *args: Any, **options: Any) -> Position:
        self.writes += 1
        if self.writes >= self.fails_at:
            raise StoreError("the disk is full")
        return await super().append(*args, **options)


async def test_a_call_that_cannot_be_written_down_is_not_run(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, Dying(2)) as bot:
        result = await bot.run("do look:1 note:1", session_key="a", resumable=True)
        assert (result.stop_reason, result.metadata["persisted"]) == ("error", False)
        assert "could not be written down: the disk is full" in str(result.error)
        assert shop.done == ["look 1"]
    async with make(home, shop, Dying(1)) as bot:  # and a run that is not resumable goes on
        result = await bot.run("do note:2", session_key="a")
        assert (result.content, result.metadata["persisted"]) == ("note=ok", False)
    async with make(home, shop, Dying(1)) as bot:
        result = await bot.run("do pay:1", session_key="a", approver=Park())
        assert (result.stop_reason, bot.approvals.list()) == ("error", [])
        assert "could not be parked: the disk is full" in str(result.error)


async def test_a_run_that_nobody_asked_to_be_resumable_writes_no_more_than_before(
    home: Path,
) -> None:
    for resumable, writes in ((False, 2), (True, 5)):
        shop, store = Shop(), Dying(1_000)
        async with make(home, shop, store) as bot:
            text = "do note:1 look:1 note:2"
            result = await bot.run(text, session_key="a", resumable=resumable)
            assert result.content == "note=ok; look=ok; note=ok"
            assert store.writes == writes  # and one more before each call that may not be repeated
            assert store.list_slips("turn") == ()


async def left_open(store: InMemoryStore, *said: Message, slip: OpenTurn | None = None) -> None:
    """Leave a session as a process does that was killed."""
    slips = {} if slip is None else {"turn": msgspec.json.encode(slip)}
    async with open_lease(store, "a") as leased:
        await store.append(leased.lease, said, slips=slips)


ANSWER = AssistantMessage(
    "On it.", tuple(ToolCall(str(n), "note", f'{{"what": "{n}"}}') for n in range(3))
)


async def test_a_turn_goes_on_where_its_process_was_killed(home: Path) -> None:
    shop, store = Shop(), InMemoryStore()
    calls = OpenCalls(ANSWER, (ToolMessage("0", "note", "noted"), None, None), (True, True, False))
    await left_open(store, UserMessage("do it"), slip=OpenTurn({"channel": "sms"}, 0, calls))
    async with make(home, shop, store) as bot:
        stream = await bot.resume_streamed("a")
        events = [event async for event in stream.stream_events()]
        result = await stream.wait()
        assert events[0].metadata["channel"] == "sms"
        assert [e.arguments for e in events if e.type == "tool.started"] == [{"what": "2"}]
        assert result.content == "note=ok; note=interrupted_may_have_run; note=ok"
        assert shop.done == ["note 2"]
        assert store.list_slips("turn") == ()


async def test_a_turn_of_which_only_the_history_is_known_goes_on_with_a_warning(
    home: Path,
) -> None:
    shop, store = Shop(), InMemoryStore()
    await left_open(store, UserMessage("hello"))
    async with make(home, shop, store) as bot:
        assert (await bot.resume("a")).content == "hello"
        roles = [(m["role"], str(m["content"])[:14]) for m in stored(bot)]
        assert roles == [("user", "hello"), ("user", "[from nanobot,"), ("assistant", "hello")]
        with pytest.raises(NothingToResume):
            await bot.resume("a")
        with pytest.raises(NothingToResume):
            await bot.resume("nobody")
        assert bot.sessions.get("nobody") is None


async def test_an_open_turn_that_cannot_be_read_is_said_and_holds_up_nothing(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = OpenCalls(ANSWER, (None,), (False,))  # for three calls
    for slip in (b"{not json", msgspec.json.encode(OpenTurn(calls=calls))):
        shop, store = Shop(), InMemoryStore()
        async with open_lease(store, "a") as leased:
            await store.append(leased.lease, [UserMessage("x")], slips={"turn": slip})
        async with make(home, shop, store) as bot:
            await bot.run("do pay:1", session_key="b", approver=Park())
            assert [waiting.session_key for waiting in bot.approvals.list()] == ["b"]
            assert "left open cannot be read" in caplog.text
            with pytest.raises(StoreError, match="left open cannot be read"):
                await bot.resume("a")
            assert (await bot.run("hello", session_key="a")).error is None
            assert len(store.list_slips("turn")) == 1
            assert "it is given up" in caplog.text
            caplog.clear()


async def test_a_parked_job_is_no_answer_and_neither_is_its_output(home: Path) -> None:
    shop = Shop()
    async with make(home, shop, InMemoryStore(), options={"approver": Park()}) as bot:
        parked, done = await bot.run_many(["do pay:1", "hello"], concurrency=1).results()
        assert (parked.ok, done.ok) == (False, True)
        (waiting,) = bot.approvals.list()
        assert parked.error == f"it waits for approval {waiting.id}"
        assert parked.result is not None
        with pytest.raises(NoOutput, match="no answer yet"):
            _ = parked.result.output
        bot.approvals.approve(waiting.id)
        assert (await bot.resume(parked.session_key)).content == "pay=ok"
        typed = await bot.run("do pay:2", session_key="b", output_type=dict[str, int])
        with pytest.raises(NoOutput):
            _ = typed.output
