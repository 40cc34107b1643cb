"""The queue in front of a service: fair, cancellable at any moment, and never faster than allowed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from nanobot.errors import RateLimited, ServiceUnavailable
from nanobot.messages import Usage, UserMessage
from nanobot.providers import (
    Limited,
    Limiter,
    ModelRequest,
    Primed,
    Provider,
    RateLimits,
    Retrying,
    RetryPolicy,
)
from nanobot.testing import Answer, ScriptedProvider

REQUEST = ModelRequest("m", (UserMessage("hi"),))


async def ask(provider: Provider, request: ModelRequest = REQUEST) -> int:
    """Get a whole answer; returns how many batches it had."""
    stream = await provider.open(request)
    try:
        return len([batch async for batch in stream])
    finally:
        await stream.aclose()


async def test_whoever_comes_first_goes_first(autojump_clock: MockClock) -> None:
    limiter = Limiter(RateLimits(max_concurrent_requests=1))
    order: list[int] = []

    async def one(number: int) -> None:
        taken = await limiter.enter()
        assert taken is not None
        order.append(number)
        await trio.sleep(random.random())
        limiter.leave(taken)

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
            await wait_all_tasks_blocked()
    assert order == list(range(50))
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_small_requests_do_not_overtake_a_large_one(autojump_clock: MockClock) -> None:
    limiter = Limiter(RateLimits(tokens_per_minute=100))
    order: list[str] = []

    async def one(name: str, tokens: int) -> None:
        taken = await limiter.enter(tokens)
        assert taken is not None
        order.append(name)
        limiter.leave(taken, tokens)

    async with trio.open_nursery() as nursery:
        for name, tokens in (("first", 60), ("large", 90), ("small", 10)):
            nursery.start_soon(one, name, tokens)
            await wait_all_tasks_blocked()
    assert order == ["first", "large", "small"]


@pytest.mark.parametrize("seed", range(5))
async def test_cancelled_at_random_nobody_is_lost_and_no_place_stays_taken(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(seed)
    limiter = Limiter(RateLimits(max_concurrent_requests=3, requests_per_minute=100))
    provider = Limited(
        ScriptedProvider(lambda _: Answer("a b c", between_deltas_s=rng.random()), record=False),
        limiter,
    )
    answered = cancelled = 0

    async def one() -> None:
        nonlocal answered, cancelled
        await trio.sleep(rng.random() * 100)
        patience_s = rng.choice([0.0, rng.random(), rng.random() * 30, 1e6])
        with trio.move_on_after(patience_s) as scope:
            await ask(provider)
            answered += 1
        cancelled += scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(one)
    assert answered + cancelled == 300
    assert answered > 50
    assert cancelled > 50
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
    await ask(provider)  # and it still works


async def test_a_refusal_of_one_slows_all(autojump_clock: MockClock) -> None:
    times: list[float] = []

    def item(_request: ModelRequest) -> str | Exception:
        times.append(trio.current_time() - started)
        if len(times) == 1:
            return RateLimited("slow", provider="scripted", retry_after_s=40.0)
        return "ok"

    provider = Limited(ScriptedProvider(item), Limiter())
    started = trio.current_time()
    with pytest.raises(RateLimited):
        await ask(provider)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, provider)
    assert times == [0, 40, 40, 40]


async def test_who_is_not_that_patient_hears_of_it_instead_of_waiting(
    autojump_clock: MockClock,
) -> None:
    limiter = Limiter()
    refusing = ScriptedProvider([RateLimited("slow", provider="scripted", retry_after_s=500.0)])
    with pytest.raises(RateLimited):
        await ask(Limited(refusing, limiter))
    await trio.sleep(100)
    with pytest.raises(RateLimited, match="another 400 s") as caught:
        await ask(Limited(ScriptedProvider([]), limiter, patience_s=300))
    assert caught.value.retry_after_s == 400.0
    await ask(Limited(ScriptedProvider(["ok"]), limiter, patience_s=400))


async def test_who_waits_already_hears_of_a_long_pause_too(autojump_clock: MockClock) -> None:
    limiter = Limiter(RateLimits(max_concurrent_requests=1))
    taken = await limiter.enter()
    assert taken is not None
    got: list[object] = []

    async def wait() -> None:
        got.append(await limiter.enter(patience_s=60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        limiter.refused(taken, 3600.0)
        limiter.leave(taken)
    assert got == [None, None]


async def test_tokens_are_counted_as_the_service_reports_them(autojump_clock: MockClock) -> None:
    limiter = Limiter(RateLimits(tokens_per_minute=1000))
    answer = Answer("ok", usage=Usage(100, 100, 200))
    provider = Limited(ScriptedProvider(lambda _: answer), limiter)
    request = ModelRequest("m", (UserMessage("x" * 400),), max_tokens=400)
    started = trio.current_time()
    for _ in range(3):  # each asks for 500 and takes 200
        await ask(provider, request)
    assert trio.current_time() == started
    await ask(provider, request)  # 600 + 500 are too many
    assert trio.current_time() == started + 60


@pytest.mark.parametrize("strikes", [RateLimited, ServiceUnavailable])
async def test_what_fails_gives_its_place_back(
    strikes: type[RateLimited | ServiceUnavailable], autojump_clock: MockClock
) -> None:
    limiter = Limiter(RateLimits(max_concurrent_requests=1))
    provider = Limited(ScriptedProvider([strikes("no", provider="scripted"), "ok"]), limiter)
    with pytest.raises(strikes):
        await ask(provider)
    assert limiter.in_flight == 0
    await ask(provider)


class Service:
    """Refuses every other request, takes a while for the others, and notes when each came."""

    name = "service"

    def __init__(self) -> None:
        self.came: list[float] = []
        self.out = self.most_out = 0
        self.inner = ScriptedProvider(
            lambda _: Answer("ok", before_first_delta_s=2.0), record=False
        )

    async def open(self, request: ModelRequest) -> object:
        self.came.append(trio.current_time())
        refused = len(self.came) % 2
        await trio.sleep(0.05)
        if refused:
            raise RateLimited("slow down", provider="service", retry_after_s=1.0)
        return await self.inner.open(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_two_hundred_sessions_lose_no_answer_and_keep_to_the_rate(
    autojump_clock: MockClock,
) -> None:
    """The service refuses every other request; the limits are 300 requests a minute and 20 at once."""
    service = Service()
    limiter = Limiter(RateLimits(max_concurrent_requests=20, requests_per_minute=300))
    answers = 0
    most_out = 0

    async def session() -> None:
        nonlocal answers
        provider = Retrying(Primed(Limited(service, limiter)), RetryPolicy(total_s=3600))  # type: ignore[arg-type]  # returns what another provider returns
        await ask(provider)
        answers += 1

    async def watch() -> None:
        nonlocal most_out
        while True:
            most_out = max(most_out, limiter.in_flight)
            await trio.sleep(0.1)

    async with trio.open_nursery() as outer:
        outer.start_soon(watch)
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(session)
        outer.cancel_scope.cancel()
    assert answers == 200
    assert len(service.came) == 400  # half of them refused
    assert most_out <= 20
    assert most_in_a_minute(service.came) <= 300
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


def most_in_a_minute(moments: Sequence[float]) -> int:
    return max(
        sum(start <= moment < start + 60 for moment in moments[index:])
        for index, start in enumerate(moments)
    )


async def test_a_full_rate_is_used_and_not_passed(autojump_clock: MockClock) -> None:
    came: list[float] = []

    def item(_request: ModelRequest) -> str:
        came.append(trio.current_time())
        return "ok"

    provider = Limited(
        ScriptedProvider(item, record=False), Limiter(RateLimits(requests_per_minute=50))
    )
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(ask, provider)
    assert [round(moment - started) for moment in came] == [n // 50 * 60 for n in range(200)]
    assert most_in_a_minute(came) == 50
