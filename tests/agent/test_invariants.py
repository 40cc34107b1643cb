"""Whatever a model says and whatever breaks, at whatever moment: the rules that hold for every turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import trio
from hypothesis import event, given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.agent import Limits, RunResult
from nanobot.errors import ConnectionFailed, RateLimited, StoreError
from nanobot.messages import (
    Delta,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageDelta,
)
from tests.agent.stage import (
    DeltaProvider,
    Notebook,
    Reader,
    check_events,
    check_legal,
    check_story,
    stage,
    text_of,
)
from tests.agent.test_cancel import CancelAtStep
from tests.agent.test_hooks import Censor, Diary

Script: TypeAlias = Sequence[Sequence[Sequence[Delta] | Exception] | Exception]

USAGE = Usage(10, 5, 15)

pieces = st.text(alphabet="ab \n", min_size=1, max_size=3)
calls = st.builds(
    ToolCallDelta,
    index=st.integers(0, 3),
    id=st.sampled_from(["", "one", "two"]),
    name=st.sampled_from(["echo", "change", "slow", "broken", "nowhere", ""]),
    arguments=st.sampled_from(["", "{}", '{"text":"x"}', '{"text":', "[]"]),
)
deltas = st.one_of(
    st.builds(TextDelta, pieces),
    st.builds(TextDelta, pieces),
    st.builds(ReasoningDelta, pieces),
    calls,
)
reasons: st.SearchStrategy[FinishReason] = st.sampled_from(
    ["stop", "stop", "tool_calls", "tool_calls", "length", "unknown"]
)
failures = st.sampled_from(
    [ConnectionFailed("lost", provider="deltas"), ZeroDivisionError("a bug in a provider")]
)
refusals = st.just(RateLimited("slow down", provider="deltas"))


@st.composite
def answers(draw: st.DrawFn, *, sound: bool) -> Sequence[Sequence[Delta] | Exception]:
    """Deltas of one answer in batches, whole or broken at any point."""
    said: list[Delta] = draw(st.lists(deltas, max_size=8))
    if draw(st.booleans()):
        said.append(UsageDelta(USAGE))
    said.append(Finished(draw(reasons if sound else st.just("content_filter"))))
    batches: list[Sequence[Delta] | Exception] = []
    while said:
        size = draw(st.integers(1, len(said)))
        batches.append(tuple(said[:size]))
        del said[:size]
    if not sound and draw(st.booleans()):
        batches[draw(st.integers(0, len(batches) - 1)) :] = [draw(failures)]
    return batches


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Sound answers, and perhaps one of another kind at the end."""
    script = draw(st.lists(answers(sound=True), min_size=1, max_size=5))
    end = draw(st.one_of(st.none(), st.none(), answers(sound=False), refusals))
    return script if end is None else [*script, end]


@dataclass
class Mishaps:
    """What else may happen to a turn."""

    cancelled_at: int | None
    timeout_s: float | None
    reader_stalls_after: int | None
    journal_fails_at: int | None
    hooks: bool


def often(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), st.none(), strategy)


mishaps = st.builds(
    Mishaps,
    cancelled_at=often(st.integers(0, 80)),
    timeout_s=st.sampled_from([None, None, 5.0, 15.0]),
    reader_stalls_after=often(st.integers(1, 15)),
    journal_fails_at=often(st.integers(0, 3)),
    hooks=st.booleans(),
)


@given(script=scripts(), mishap=mishaps)
def test_every_turn_ends_with_one_event_one_result_and_a_legal_history(
    script: Script, mishap: Mishaps
) -> None:
    trio.run(check_turn, script, mishap, clock=MockClock(autojump_threshold=0))


async def check_turn(script: Script, mishap: Mishaps) -> None:
    provider, reader = DeltaProvider(script), Reader(stalls_after=mishap.reader_stalls_after)
    failing = mishap.journal_fails_at is not None
    journal = Notebook(
        fails_at=mishap.journal_fails_at, error=StoreError("full") if failing else None
    )
    hooks = [Diary(), Censor()] if mishap.hooks else []
    limits = Limits(max_iterations=3, timeout_s=mishap.timeout_s)
    turn = stage(provider, emit=reader, journal=journal, hooks=hooks, limits=limits)
    instrument = CancelAtStep(-1 if mishap.cancelled_at is None else mishap.cancelled_at)
    trio.lowlevel.add_instrument(instrument)
    result: RunResult | None = None
    try:
        with trio.CancelScope() as scope:
            instrument.scope = scope
            result = await turn.run()
    except ZeroDivisionError:
        event("a bug was raised")
        result = turn.result("error")
    finally:
        trio.lowlevel.remove_instrument(instrument)
    if result is None:
        result = turn.result("cancelled")
    event(f"ended by {result.stop_reason}")

    # One terminal event, which tells the result; the order of the contract before it.
    check_events(reader.events, finalized=mishap.hooks)
    last = reader.events[-1]
    assert (last.type == "run.failed") == (result.error is not None)
    assert (last.content, last.error, last.usage) == (result.content, result.error, result.usage)

    # The answer is what was streamed, also if it is only a part.
    if result.content:
        assert result.content == text_of(reader.events, last.iteration)

    # What was recorded is a legal history at any time, and the result shows it.
    check_legal(journal.messages)
    if "persisted" in result.metadata:
        assert failing
    else:
        check_story(result, journal)

    # Usage is complete, every connection went back, and no limit was passed.
    assert result.usage["total_tokens"] == (
        result.usage["prompt_tokens"] + result.usage["completion_tokens"]
    )
    if "usage_estimated" not in result.metadata:
        assert result.usage["total_tokens"] == 15 * result.metadata["request_count"]
    assert provider.streams_open == 0
    assert result.metadata["iterations"] <= 4
    assert len(provider.requests) <= 4 * (
        1 + limits.max_continuations + limits.max_empty_retries + 1
    )
