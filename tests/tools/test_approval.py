"""Tools that somebody has to allow: who is asked, when, about what, and what a call is that nobody allowed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.errors import UsageError
from nanobot.messages import ToolCall, ToolSpec
from nanobot.tools import (
    Approval,
    ApprovalRequest,
    Approved,
    Approver,
    Batch,
    Denied,
    Park,
    RunContext,
    ToolResult,
    Toolset,
    ToolTraits,
    Workspace,
    execute,
    execute_all,
    tool,
)
from nanobot.tools._approval import ApprovalMode, mode_by_name
from nanobot.tools._cross import Cross

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@tool(approval="ask", timeout_s=2)
async def send(to: str, words: int = 1) -> str:
    """Send a letter."""
    ran.append(to)
    return f"sent to {to}"


@tool(approval="ask", read_only=True)
async def peek(name: str) -> str:
    ran.append(name)
    return f"saw {name}"


@tool(read_only=True)
async def read(name: str, seconds: float = 0) -> str:
    await trio.sleep(seconds)
    ran.append(name)
    return f"read {name}"


TOOLS = Toolset([send, peek, read])


def letter(to: str = "Ada") -> ToolCall:
    return ToolCall("call-1", "send", f'{{"to": "{to}"}}')


async def sent(approver: Approver | None, context: RunContext) -> ToolResult:
    return await execute(letter(), TOOLS, context, approval=Approval(approver))


# What an answer means


@pytest.mark.parametrize("answer", [True, Approved()])
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_call_that_is_approved_is_run(answer: Any, kind: str, context: RunContext) -> None:
    async def async_approver(request: ApprovalRequest) -> Any:
        await trio.lowlevel.checkpoint()
        return answer

    approver = async_approver if kind == "async" else lambda _: answer
    result = await sent(approver, context)
    assert (result.ok, result.message.content) == (True, "sent to Ada")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (False, "it was not approved. Do not try the same again"),
        (Denied(), "it was not approved. Do not try the same again"),
        (Denied("  "), "it was not approved. Do not try the same again"),
        (Denied("not on a Sunday"), "not run: not on a Sunday"),
        (None, "whoever approves gave no clear answer"),
        (1, "whoever approves gave no clear answer"),
        ("yes", "whoever approves gave no clear answer"),
    ],
)
async def test_whoever_does_not_say_yes_says_no(
    answer: Any, told: str, context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    result = await sent(lambda _: answer, context)
    assert (result.ok, result.message.outcome, ran) == (False, "denied", [])
    assert told in str(result.message.content)
    assert bool(caplog.records) == ("clear" in told)


async def test_without_anybody_to_ask_the_model_is_told_so(context: RunContext) -> None:
    result = await sent(None, context)
    assert (result.message.outcome, ran) == ("denied", [])
    assert "needs somebody's approval, and nobody is there" in str(result.message.content)


class Strange(BaseException):
    """Not even an `Exception`."""


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(1), Strange("secret")])
async def test_an_approver_that_fails_has_not_approved(
    error: BaseException, context: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: ApprovalRequest) -> bool:
        raise error

    with caplog.at_level(logging.ERROR, logger="nanobot.approval"):
        result = await sent(fails, context)
    assert (result.message.outcome, ran) == ("denied", [])
    assert type(error).__name__ in str(result.message.content)
    assert "secret" not in str(result.message.content)
    assert result.exception is error  # for hooks and the trace
    assert [record.name for record in caplog.records] == ["nanobot.approval"]


async def test_ctrl_c_is_no_answer(context: RunContext) -> None:
    def interrupted(_: ApprovalRequest) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await sent(interrupted, context)


# What is asked, and when


async def test_the_request_says_all_that_a_decision_needs_and_can_be_written_down(
    context: RunContext,
) -> None:
    asked: list[ApprovalRequest] = []

    def note(request: ApprovalRequest) -> bool:
        asked.append(request)
        request.arguments["to"] = "Mallory"  # must not reach the tool
        return True

    call = ToolCall("call-7", "send", '{"to": "Ada", "words": "5"}')
    context = msgspec.structs.replace(context, iteration=3)
    result = await execute(call, TOOLS, context, approval=Approval(note))
    assert result.message.content == "sent to Ada"
    (request,) = asked
    assert request == ApprovalRequest(
        name="send",
        arguments={"to": "Mallory", "words": "5"},
        tool_call_id="call-7",
        session_key="user:alice",
        description="Send a letter.",
        iteration=3,
    )
    written = msgspec.json.encode(request)
    assert msgspec.json.decode(written, type=ApprovalRequest) == request
    for decision in (Approved(), Denied("no")):
        written = msgspec.json.encode(decision)
        assert msgspec.json.decode(written, type=Approved | Denied) == decision
    with pytest.raises(AttributeError):
        request.name = "other"  # type: ignore[misc]  # frozen: that is the point


@pytest.mark.parametrize("arguments", ['{"wrong": 1}', "nonsense", "{}"])
async def test_nobody_is_bothered_with_a_call_that_cannot_be_run(
    arguments: str, context: RunContext
) -> None:
    asked: list[ApprovalRequest] = []

    def note(request: ApprovalRequest) -> bool:
        asked.append(request)
        return True

    approval = Approval(note)
    result = await execute(ToolCall("1", "send", arguments), TOOLS, context, approval=approval)
    assert (result.message.outcome, asked) == ("error", [])
    result = await execute(ToolCall("1", "sned", "{}"), TOOLS, context, approval=approval)
    assert (result.message.outcome, asked) == ("error", [])


async def test_waiting_for_somebody_is_not_the_tools_time(
    autojump_clock: MockClock, context: RunContext
) -> None:
    async def thinks(_: ApprovalRequest) -> bool:
        await trio.sleep(3600)
        return True

    result = await sent(thinks, context)  # `send` may take two seconds
    assert (result.ok, result.elapsed_s) == (True, 0)
    assert trio.current_time() >= 3600


async def test_a_cancel_while_somebody_thinks_leaves_the_call_unstarted(
    autojump_clock: MockClock, context: RunContext
) -> None:
    left: list[float] = []

    async def thinks(_: ApprovalRequest) -> bool:
        try:
            await trio.sleep(3600)
        finally:
            left.append(trio.current_time())
        return True

    for calls in ([letter()], [ToolCall("1", "peek", '{"name": "a"}')] * 2):
        batch = Batch(calls)
        started = trio.current_time()
        with trio.move_on_after(5) as scope:
            await execute_all(batch, TOOLS, context, approval=Approval(thinks))
        assert scope.cancelled_caught
        assert {result.message.outcome for result in batch.results} == {"cancelled_before_start"}
        assert left.pop() - started == 5
    assert (ran, left) == ([], [])


async def test_questions_come_one_at_a_time_in_order_and_the_rest_goes_on(
    autojump_clock: MockClock, context: RunContext
) -> None:
    story: list[str] = []

    async def thinks(request: ApprovalRequest) -> bool:
        story.append(f"ask {request.tool_call_id}")
        await trio.sleep(10)
        story.append(f"answer {request.tool_call_id}")
        return request.tool_call_id != "1"

    async def on_start(index: int, _: ToolCall) -> None:
        story.append(f"start {index}")

    async def on_result(index: int, result: ToolResult) -> None:
        story.append(f"{result.message.outcome} {index}")

    batch = Batch(
        [
            ToolCall("0", "peek", '{"name": "0"}'),
            ToolCall("1", "peek", '{"name": "1"}'),
            ToolCall("2", "read", '{"name": "2", "seconds": 1}'),
            ToolCall("3", "peek", '{"name": "3"}'),
            ToolCall("4", "send", '{"to": "4"}'),
        ]
    )
    approval = Approval(thinks)
    await execute_all(
        batch, TOOLS, context, approval=approval, on_start=on_start, on_result=on_result
    )
    assert [result.message.outcome for result in batch.results] == ["ok", "denied", *["ok"] * 3]
    assert [result.message.tool_call_id for result in batch.results] == list("01234")
    assert ran == ["2", "0", "3", "4"]
    questions = [line for line in story if line.startswith(("ask", "answer"))]
    assert questions == [f"{what} {n}" for n in "0134" for what in ("ask", "answer")]
    assert story.index("ok 2") < story.index("answer 0")  # it needed no approval
    assert [line for line in story if line.startswith("start")] == [f"start {n}" for n in range(5)]
    assert story.index("start 4") > story.index("ok 3")  # what changes something waits for its turn


async def test_a_callback_that_fails_while_somebody_thinks_ends_the_question(
    autojump_clock: MockClock, context: RunContext
) -> None:
    async def thinks(_: ApprovalRequest) -> bool:
        await trio.sleep_forever()
        return True

    async def on_result(index: int, result: ToolResult) -> None:
        raise LookupError(index)

    calls = [ToolCall("0", "peek", '{"name": "0"}'), ToolCall("1", "read", '{"name": "1"}')]
    batch = Batch(calls)
    with pytest.raises(LookupError):
        await execute_all(batch, TOOLS, context, approval=Approval(thinks), on_result=on_result)
    assert [r.message.outcome for r in batch.results] == ["cancelled_before_start", "ok"]


KINDS = ("send", "peek", "read")


@given(
    asked=st.lists(st.sampled_from(KINDS), max_size=6),
    yes=st.lists(st.booleans(), min_size=6, max_size=6),
    cancel_after_s=st.integers(1, 14),
)
def test_whenever_it_is_cancelled_nothing_runs_that_was_not_approved(
    asked: Sequence[str], yes: Sequence[bool], cancel_after_s: int
) -> None:
    ran.clear()
    approved: set[str] = set()

    async def thinks(request: ApprovalRequest) -> bool:
        await trio.sleep(2)
        if yes[int(request.tool_call_id)]:
            approved.add(request.tool_call_id)
        return yes[int(request.tool_call_id)]

    argument = {"send": "to", "peek": "name", "read": "name"}
    calls = [
        ToolCall(str(n), name, f'{{"{argument[name]}": "{n}"}}') for n, name in enumerate(asked)
    ]
    batch = Batch(calls)

    async def main() -> None:
        with trio.move_on_after(cancel_after_s - 0.5):
            context = RunContext(confined=Workspace("unused"))
            await execute_all(batch, TOOLS, context, approval=Approval(thinks))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    for call, result in zip(calls, batch.results, strict=True):
        outcome = result.message.outcome
        assert (call.id in ran) == (outcome == "ok")
        if outcome == "ok" and call.name != "read":
            assert call.id in approved
        if outcome == "denied":
            assert call.id not in approved
            assert not yes[int(call.id)]


# Rules


@pytest.mark.parametrize(
    ("rules", "mode"),
    [
        ({}, None),
        ({"exec": "ask"}, "ask"),
        ({"exec": "never"}, "never"),
        ({"*": "ask"}, "ask"),
        ({"*": "ask", "exec": "never"}, "never"),
        ({"exec": "never", "*": "ask"}, "never"),
        ({"*": "never", "ex*": "ask"}, "ask"),
        ({"ex*": "ask", "*": "never"}, "ask"),
        ({"ex??": "never"}, "never"),
        ({"Exec": "ask", "exe": "ask", "execute": "ask"}, None),
        ({"[de]xec": "ask"}, "ask"),
    ],
)
def test_a_name_goes_before_patterns_and_of_patterns_the_careful_one_wins(
    rules: dict[str, ApprovalMode], mode: ApprovalMode | None
) -> None:
    assert mode_by_name("exec", rules) == mode


@given(
    st.dictionaries(
        st.text("ab*?", min_size=1, max_size=4), st.sampled_from(["ask", "never"]), max_size=5
    ),
    st.text("ab", min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rules_means_nothing(
    rules: dict[str, ApprovalMode], name: str, random: Any
) -> None:
    shuffled = list(rules.items())
    random.shuffle(shuffled)
    assert mode_by_name(name, rules) == mode_by_name(name, dict(shuffled))


async def test_the_configuration_has_the_last_word_both_ways(context: RunContext) -> None:
    approval = Approval(None, {"send": "never", "r*": "ask"})
    assert (await execute(letter(), TOOLS, context, approval=approval)).ok
    result = await execute(
        ToolCall("1", "read", '{"name": "a"}'), TOOLS, context, approval=approval
    )
    assert result.message.outcome == "denied"


async def test_a_call_outside_of_a_turn_is_denied_where_a_turn_would_be_parked(
    context: RunContext,
) -> None:
    approval = Approval(None, may_park=True, park_unattended=True)
    result = await execute(letter(), TOOLS, context, approval=approval)
    assert result.message.outcome == "denied"
    assert ran == []


class Answering:
    """A tool that does nothing but give the run's answer."""

    spec = ToolSpec("final_answer", "", {"type": "object", "properties": {}})
    traits = ToolTraits(gives_answer=True)
    origin = "a test"

    def convert(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return arguments

    async def invoke(self, arguments: Any, context: RunContext, cross: Cross) -> str:
        return "Accepted."


class Unheeding(Approval, frozen=True, eq=False):
    """Parks a call whether or not it may."""

    async def decide(self, request: ApprovalRequest, cross: Cross) -> Park:
        return Park(1.0)


async def test_a_call_outside_of_a_turn_is_not_run_if_it_is_parked_all_the_same(
    context: RunContext,
) -> None:
    result = await execute(letter(), TOOLS, context, approval=Unheeding())
    assert result.message.outcome == "denied"
    assert "cannot wait" in str(result.message.content)
    assert ran == []


async def test_nobody_is_asked_whether_a_run_may_give_its_answer(context: RunContext) -> None:
    toolset, approval = Toolset([Answering()]), Approval(None, {"*": "ask"})
    assert (
        await execute(ToolCall("1", "final_answer", "{}"), toolset, context, approval=approval)
    ).ok


def test_a_mode_that_is_none_is_refused() -> None:
    def pay() -> None: ...

    with pytest.raises(UsageError, match="must be 'ask' or 'never'"):
        tool(approval="always")(pay)  # type: ignore[call-overload]  # the mistake under test
