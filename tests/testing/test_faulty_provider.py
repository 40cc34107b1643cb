"""A provider that fails as networks do, around any other."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from nanobot import Nanobot
from nanobot.errors import (
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    RateLimited,
    UsageError,
)
from nanobot.messages import (
    Delta,
    ReasoningDelta,
    TextDelta,
    Usage,
    UsageDelta,
    UserMessage,
)
from nanobot.providers import ModelRequest, Primed, Retrying, RetryPolicy
from nanobot.testing import (
    Answer,
    Cut,
    FaultyProvider,
    HugeLine,
    InMemoryStore,
    MalformedEvent,
    Raise,
    ScriptedProvider,
    SlowDrip,
    Stall,
    assert_legal_history,
    random_faults,
)

REQUEST = ModelRequest("m", [UserMessage("Hi")])


async def heard(provider: Any) -> tuple[list[str], ProviderError | None]:
    texts: list[str] = []
    try:
        stream = await provider.open(REQUEST)
    except ProviderError as error:
        return texts, error
    try:
        async for batch in stream:
            texts += [delta.text for delta in batch if isinstance(delta, TextDelta)]
    except ProviderError as error:
        return texts, error
    finally:
        await stream.aclose()
    return texts, None


@pytest.mark.parametrize(
    ("fault", "texts", "error"),
    [
        (None, ["one ", "two ", "three"], None),
        (Cut(2), ["one ", "two "], ConnectionFailed),
        (Cut(1, at="mid_token"), ["one ", "tw"], ConnectionFailed),
        (Cut(None), [], ConnectionFailed),
        (Cut(9), ["one ", "two ", "three"], ConnectionFailed),
        (MalformedEvent(after_deltas=1), ["one "], MalformedStream),
        (HugeLine(after_deltas=0), [], MalformedStream),
        (Raise(RateLimited("late", provider="p"), 1), ["one "], RateLimited),
        (RateLimited("no", provider="p"), [], RateLimited),
        (SlowDrip(3, 0.5), ["one", " ", "two", " ", "thr", "ee"], None),
    ],
    ids=repr,
)
async def test_each_fault_is_what_it_says(
    autojump_clock: MockClock, fault: Any, texts: list[str], error: type[ProviderError] | None
) -> None:
    inner = ScriptedProvider(["one two three"])
    provider = FaultyProvider(inner, [fault])
    said, raised = await heard(provider)
    assert said == texts
    assert type(raised) is (type(None) if error is None else error)
    assert inner.streams_open == 0
    assert provider.struck == (fault is not None)


@pytest.mark.parametrize("after", [None, 0, 2, 9])
async def test_a_stall_lasts_until_somebody_gives_up(
    autojump_clock: MockClock, after: int | None
) -> None:
    inner = ScriptedProvider(["one two three"])
    with trio.move_on_after(1_000_000) as scope:
        await heard(FaultyProvider(inner, [Stall(after)]))
    assert scope.cancelled_caught
    assert inner.streams_open == 0


async def test_faults_are_given_out_in_order_or_by_a_function(autojump_clock: MockClock) -> None:
    answers: Callable[..., str] = lambda _request: "x"  # noqa: E731 - shorter than a def
    in_order = FaultyProvider(ScriptedProvider(answers), [Cut(0), None, Cut(0)])
    assert [bool((await heard(in_order))[1]) for _ in range(5)] == [True, False, True, False, False]
    by_model = FaultyProvider(
        ScriptedProvider(answers), lambda one: Cut(0) if one.model == "m" else None
    )
    assert (await heard(by_model))[1] is not None


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    def kinds(seed: int) -> list[str]:
        return [repr(fault) for fault in islice(random_faults(seed, 0.5), 50)]

    assert kinds(1) == kinds(1) != kinds(2)
    assert set(islice(random_faults(1, 0.0), 20)) == {None}
    assert None not in islice(random_faults(1, 1.0), 20)
    with pytest.raises(UsageError):
        next(random_faults(1, 2.0))


async def test_what_retries_gets_through_in_the_end(autojump_clock: MockClock) -> None:
    refused = RateLimited("no", provider="p", retry_after_s=30.0)
    faults: list[Cut | Exception] = [refused, Cut(0), Cut(None)]
    provider = Retrying(
        Primed(FaultyProvider(ScriptedProvider(["Hello"] * 4), faults)),
        RetryPolicy(max_attempts=5),
    )
    assert await heard(provider) == (["Hello"], None)
    assert trio.current_time() >= 30


@pytest.mark.parametrize("seed", range(5))
def test_a_bot_keeps_legal_histories_whatever_happens(tmp_path: Path, seed: int) -> None:
    def answer(request: ModelRequest) -> Answer | str:
        tools_run = sum(type(message).__name__ == "ToolMessage" for message in request.messages)
        return "Done." if tools_run % 2 else Answer("Look:", tool_calls=[("list_dir", {})])

    provider = FaultyProvider(ScriptedProvider(answer), random_faults(seed, 0.4))
    with Nanobot.from_config(
        provider=provider, store=InMemoryStore(), workspace=tmp_path / "w"
    ) as bot:
        for number in range(12):
            bot.run_sync(f"Question {number}")
        snapshot = bot.sessions.get("sdk:default")
    assert snapshot is not None
    assert_legal_history(snapshot.messages)
    assert provider.struck


async def test_only_what_the_model_says_is_counted_and_a_drip_takes_its_time(
    autojump_clock: MockClock,
) -> None:
    answer = Answer("said", reasoning="thought", tool_calls=[("look", {})])
    told: list[Delta] = [
        UsageDelta(Usage(1, 0, 1)),
        TextDelta("a"),
        UsageDelta(Usage(1, 1, 2)),
        TextDelta("b"),
    ]

    class Inner(ScriptedProvider):
        async def open(self, request: ModelRequest) -> Any:
            return Told()

    class Told:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> list[Delta]:
            return [told.pop(0)]

        async def aclose(self) -> None:
            """Nothing is open."""

    passed: list[Delta] = []
    with pytest.raises(ConnectionFailed):
        async for batch in await FaultyProvider(Inner([]), [Cut(1)]).open(REQUEST):
            passed += batch
    assert passed == [UsageDelta(Usage(1, 0, 1)), TextDelta("a")]

    began = trio.current_time()
    stream = await FaultyProvider(ScriptedProvider([answer]), [SlowDrip(2, 5.0)]).open(REQUEST)
    dripped = [batch[0] async for batch in stream]
    thought = [one.text for one in dripped if isinstance(one, ReasoningDelta)]
    assert thought == ["th", "ou", "gh", "t"]
    assert trio.current_time() - began == 5.0 * len(dripped)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Cut(1), "before the answer was complete"),
        (MalformedEvent(after_deltas=1), "not JSON"),
        (HugeLine(2_000, after_deltas=1), "a line of 2000 bytes"),
        (Raise(RateLimited("late", provider="p"), 1), "late"),
    ],
    ids=repr,
)
async def test_who_breaks_an_answer_off_has_closed_it_by_then(
    autojump_clock: MockClock, fault: Any, told: str
) -> None:
    inner = ScriptedProvider(["one two three"])
    stream = await FaultyProvider(inner, [fault]).open(REQUEST)
    with pytest.raises(ProviderError, match=told):
        async for _ in stream:
            pass
    assert inner.streams_open == 0
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_the_provider_inside_is_closed_with_it(autojump_clock: MockClock) -> None:
    class Inside(ScriptedProvider):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    inner = Inside(["x"])
    await FaultyProvider(inner, []).aclose()
    assert inner.closed
