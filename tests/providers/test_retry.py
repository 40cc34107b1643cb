"""When a failed request is sent again: the decision on plain facts, and whole stories on a virtual clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    InvalidArgument,
    MalformedStream,
    OutOfCredit,
    ProviderError,
    ProviderTimeout,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from nanobot.messages import TextDelta, UserMessage
from nanobot.providers import ModelRequest, Primed, Retrying, RetryPolicy
from nanobot.providers._retry import retry_delay_s
from nanobot.testing import Answer, Cut, Raise, ScriptedProvider, Stall

REQUEST = ModelRequest("m", (UserMessage("hi"),))


def unavailable(retry_after_s: float | None = None) -> ServiceUnavailable:
    return ServiceUnavailable("down", provider="scripted", status=503, retry_after_s=retry_after_s)


def limited(retry_after_s: float | None = None) -> RateLimited:
    return RateLimited("slow", provider="scripted", status=429, retry_after_s=retry_after_s)


PASSING = [
    unavailable(),
    ServiceUnavailable("conflict", provider="x", status=409),
    ServiceUnavailable("late", provider="x", status=408),
    limited(),
    ConnectionFailed("gone", provider="x"),
    ProviderTimeout("silent", provider="x", phase="first_token", limit_s=1),
    MalformedStream("rubbish", provider="x"),
]
FINAL = [
    AuthenticationFailed("key", provider="x", status=401),
    RequestRejected("no", provider="x", status=400),
    RequestRejected("filtered", provider="x", status=400, body_excerpt="content_filter"),
    OutOfCredit("quota", provider="x", status=429),
]


def delay(error: ProviderError, policy: RetryPolicy | None = None, **facts: float) -> float | None:
    defaults = {"failures": 1, "refusals": 0, "elapsed_s": 0.0, "jitter": 0.0}
    return retry_delay_s(policy or RetryPolicy(), error, **{**defaults, **facts})  # type: ignore[arg-type]  # ints among them


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_what_may_pass_is_asked_for_again(error: ProviderError) -> None:
    assert delay(error) == 1.0


@pytest.mark.parametrize("error", FINAL, ids=str)
def test_what_stays_wrong_is_not_asked_for_again(error: ProviderError) -> None:
    assert delay(error) is None


def test_the_wait_doubles_up_to_its_bound() -> None:
    policy = RetryPolicy(max_attempts=99, first_delay_s=1, max_delay_s=30)
    assert [delay(unavailable(), policy, failures=n) for n in range(1, 8)] == [
        *(1, 2, 4, 8, 16),
        *(30, 30),
    ]
    assert delay(unavailable(), policy, failures=98) == 30


def test_a_wait_of_ours_is_shortened_by_chance_and_one_asked_for_only_lengthened() -> None:
    assert delay(unavailable(), jitter=0.5) == 0.75
    assert delay(limited(4.0), jitter=0.5) == pytest.approx(4.2)
    assert delay(limited(100.0), jitter=0.5) == 100.5


def test_attempts_and_refusals_are_bounded_apart() -> None:
    policy = RetryPolicy(max_attempts=3, max_refusals=5)
    assert delay(unavailable(), policy, failures=2, refusals=4) is not None
    assert delay(unavailable(), policy, failures=3, refusals=0) is None
    assert delay(limited(), policy, failures=2, refusals=4) is not None
    assert delay(limited(), policy, failures=0, refusals=5) is None


def test_a_wait_that_would_end_too_late_is_not_begun() -> None:
    policy = RetryPolicy(total_s=60)
    assert delay(limited(60.0), policy) == 60
    assert delay(limited(60.1), policy) is None
    assert delay(unavailable(), policy, elapsed_s=59.5) is None


@given(
    st.integers(1, 2000),
    st.integers(0, 2000),
    st.one_of(st.none(), st.floats(0, 1e9)),
    st.floats(0, 0.999),
    st.floats(0, 1e9),
)
def test_no_wait_is_negative_or_passes_its_bounds(
    failures: int, refusals: int, retry_after_s: float | None, jitter: float, elapsed_s: float
) -> None:
    policy = RetryPolicy(max_attempts=9999, max_refusals=9999)
    found = delay(
        unavailable(retry_after_s),
        policy,
        failures=failures,
        refusals=refusals,
        jitter=jitter,
        elapsed_s=elapsed_s,
    )
    if found is not None:
        assert found >= 0
        assert elapsed_s + found <= policy.total_s
        assert found >= retry_after_s if retry_after_s is not None else found <= 30


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"max_refusals": 0},
        {"total_s": -1},
        {"first_delay_s": 5, "max_delay_s": 1},
        {"first_delay_s": float("nan")},
    ],
)
def test_bounds_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # what is wrong is the point


# --- stories


def retrying(provider: ScriptedProvider, policy: RetryPolicy | None = None) -> Retrying:
    return Retrying(Primed(provider), policy or RetryPolicy(), random_number=lambda: 0.0)


async def answer_of(provider: Retrying, request: ModelRequest = REQUEST) -> str:
    stream = await provider.open(request)
    try:
        return "".join(
            [delta.text async for batch in stream for delta in batch if type(delta) is TextDelta]
        )
    finally:
        await stream.aclose()


async def test_waits_exactly_as_long_as_the_server_asked(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider([limited(30.0), "hello"])
    started = trio.current_time()
    assert await answer_of(retrying(provider)) == "hello"
    assert trio.current_time() - started == 30.0


async def test_a_story_of_five_minutes_with_its_exact_delays(autojump_clock: MockClock) -> None:
    asked_at: list[float] = []
    script: Iterator[str | Exception] = iter(
        [
            *(unavailable(), ConnectionFailed("gone", provider="scripted")),
            *(limited(120.0), limited(0.5), limited(150.0)),
            *(unavailable(), "at last"),
        ]
    )

    def item(_request: ModelRequest) -> str | Exception:
        asked_at.append(trio.current_time() - started)
        return next(script)

    provider = ScriptedProvider(item)
    started = trio.current_time()
    policy = RetryPolicy(max_delay_s=16)
    assert await answer_of(retrying(provider, policy)) == "at last"
    waits = [later - earlier for earlier, later in pairwise(asked_at)]
    # two failures; three refusals that say how long; and the sixth thing that went wrong, which does not
    assert waits == [1, 2, 120, 0.5, 150, 16]
    assert asked_at[-1] == 289.5


async def test_it_gives_up_with_the_last_error_after_four_failures(
    autojump_clock: MockClock,
) -> None:
    provider = ScriptedProvider(
        [unavailable(), unavailable(), unavailable(), limited(), unavailable()]
    )
    started = trio.current_time()
    with pytest.raises(ServiceUnavailable):
        await answer_of(retrying(provider))
    assert provider.request_count == 5
    assert trio.current_time() - started == 1 + 2 + 4 + 8


@pytest.mark.parametrize("error", FINAL, ids=str)
async def test_what_stays_wrong_is_raised_at_once(
    error: ProviderError, autojump_clock: MockClock
) -> None:
    provider = ScriptedProvider([error, "never"])
    started = trio.current_time()
    with pytest.raises(type(error)):
        await answer_of(retrying(provider))
    assert (provider.request_count, trio.current_time()) == (1, started)


async def test_a_service_that_asks_for_an_hour_is_not_waited_for(autojump_clock: MockClock) -> None:
    provider = ScriptedProvider([limited(3600.0), "never"])
    with pytest.raises(RateLimited) as caught:
        await answer_of(retrying(provider))
    assert caught.value.retry_after_s == 3600.0
    assert provider.request_count == 1


@pytest.mark.parametrize(
    "broken",
    [
        Answer("lost", fault=Cut(0)),
        Answer("lost", fault=Raise(unavailable(), after_deltas=0)),
    ],
    ids=["cut", "an error for a first event"],
)
async def test_an_answer_that_breaks_before_its_first_words_is_asked_for_again(
    broken: Answer, autojump_clock: MockClock
) -> None:
    provider = ScriptedProvider([broken, "whole"])
    assert await answer_of(retrying(provider)) == "whole"
    assert (provider.request_count, provider.streams_open) == (2, 0)


@pytest.mark.parametrize("after", [1, 2])
async def test_an_answer_that_breaks_after_its_first_words_is_never_asked_for_again(
    after: int, autojump_clock: MockClock
) -> None:
    provider = ScriptedProvider([Answer("one two three", fault=Cut(after)), "never"])
    stream = await retrying(provider).open(REQUEST)
    with pytest.raises(ConnectionFailed):
        async for _ in stream:
            pass
    await stream.aclose()
    assert (provider.request_count, provider.streams_open) == (1, 0)


async def test_a_cancel_ends_a_wait_at_once_and_leaves_nothing_open(
    autojump_clock: MockClock,
) -> None:
    provider = ScriptedProvider([limited(200.0), "never"])
    with trio.move_on_after(5) as scope:
        await answer_of(retrying(provider))
    assert scope.cancelled_caught
    assert provider.request_count == 1


async def test_a_cancel_while_the_first_words_are_awaited_closes_the_stream(
    autojump_clock: MockClock,
) -> None:
    provider = ScriptedProvider([Answer("x", fault=Stall(0))])
    with trio.move_on_after(5) as scope:
        await answer_of(retrying(provider))
    assert scope.cancelled_caught
    assert provider.streams_open == 0


async def test_closing_goes_through() -> None:
    provider = ScriptedProvider([])
    outer = retrying(provider)
    assert outer.name == "scripted"
    await outer.aclose()
    assert provider.closed
