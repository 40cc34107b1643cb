"""The next model when one fails: whom, when, and never two models' words in one answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from nanobot.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    OutOfCredit,
    ProviderError,
    RateLimited,
    RequestRejected,
    ServiceUnavailable,
)
from nanobot.messages import TextDelta, ToolSpec, UserMessage
from nanobot.providers import (
    Candidate,
    Circuit,
    Fallback,
    Limited,
    Limiter,
    ModelRequest,
    Primed,
    Provider,
    Retrying,
)
from nanobot.testing import Answer, Cut, ScriptedProvider, Stall

REQUEST = ModelRequest("first-model", (UserMessage("hi"),), max_tokens=500)


def down() -> ServiceUnavailable:
    return ServiceUnavailable("down", provider="scripted", status=503)


def candidate(provider: Provider, model: str, **fields: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "max_tokens": 1000,
        "temperature": None,
        "reasoning_effort": None,
        "circuit": Circuit(),
    }
    return Candidate(provider=Primed(provider), model=model, **{**defaults, **fields})


def two(first: ScriptedProvider, second: ScriptedProvider) -> Fallback:
    return Fallback([candidate(first, "first-model"), candidate(second, "second-model")])


async def answer_of(provider: Provider, request: ModelRequest = REQUEST) -> str:
    stream = await provider.open(request)
    try:
        return "".join(
            [delta.text async for batch in stream for delta in batch if type(delta) is TextDelta]
        )
    finally:
        await stream.aclose()


@pytest.mark.parametrize(
    "error",
    [
        down(),
        RateLimited("slow", provider="x"),
        ConnectionFailed("gone", provider="x"),
        AuthenticationFailed("key", provider="x"),
        OutOfCredit("broke", provider="x"),
    ],
    ids=repr,
)
async def test_another_model_answers_where_it_may_do_better(error: ProviderError) -> None:
    first, second = ScriptedProvider([error], "one"), ScriptedProvider(["from the second"], "two")
    assert await answer_of(two(first, second)) == "from the second"
    assert second.requests[0].model == "second-model"


async def test_a_wrong_request_is_wrong_everywhere() -> None:
    first = ScriptedProvider([RequestRejected("too long", provider="one", status=400)])
    second = ScriptedProvider([])
    with pytest.raises(RequestRejected):
        await answer_of(two(first, second))
    assert second.request_count == 0


async def test_the_next_model_is_asked_as_it_wants_to_be() -> None:
    second = ScriptedProvider(["ok", "ok"])
    tool = ToolSpec("t", "d", {"type": "object"})
    chain = Fallback(
        [
            candidate(ScriptedProvider([down(), down()]), "first-model"),
            candidate(
                second,
                "second-model",
                max_tokens=100,
                temperature=0.5,
                reasoning_effort="low",
                offers_tools=False,
            ),
        ]
    )
    await answer_of(chain, ModelRequest("first-model", REQUEST.messages, (tool,), max_tokens=500))
    await answer_of(chain, ModelRequest("first-model", REQUEST.messages, (tool,), max_tokens=50))
    asked, asked_again = second.requests
    assert (asked.model, asked.max_tokens, asked.temperature) == ("second-model", 100, 0.5)
    assert (asked.reasoning_effort, asked.tools) == ("low", ())
    assert asked_again.max_tokens == 50  # a budget that leaves less counts here, too


async def test_two_models_words_are_never_mixed(autojump_clock: MockClock) -> None:
    first = ScriptedProvider([Answer("one two three", fault=Cut(2))])
    second = ScriptedProvider([])
    stream = await two(first, second).open(REQUEST)
    said: list[str] = []
    with pytest.raises(ConnectionFailed):
        async for batch in stream:
            said += [delta.text for delta in batch if type(delta) is TextDelta]
    await stream.aclose()
    assert "".join(said) == "one two "
    assert second.request_count == 0


async def test_before_the_first_words_the_next_model_takes_over() -> None:
    first = ScriptedProvider([Answer("lost", fault=Cut(0))])
    second = ScriptedProvider(["whole"])
    assert await answer_of(two(first, second)) == "whole"
    assert first.streams_open == 0


async def test_after_three_failures_a_model_is_passed_over_for_a_minute(
    autojump_clock: MockClock,
) -> None:
    healthy = False
    first = ScriptedProvider(lambda _: "first" if healthy else down())
    chain = two(first, ScriptedProvider(lambda _: "second"))
    for _ in range(5):
        assert await answer_of(chain) == "second"
    assert first.request_count == 3
    await trio.sleep(59.9)
    assert await answer_of(chain) == "second"
    assert first.request_count == 3
    await trio.sleep(0.1)
    assert await answer_of(chain) == "second"  # it was tried, and failed once more
    assert first.request_count == 4
    await trio.sleep(30)
    assert await answer_of(chain) == "second"
    assert first.request_count == 4
    healthy = True
    await trio.sleep(30)
    assert [await answer_of(chain) for _ in range(3)] == ["first"] * 3
    assert first.request_count == 7


async def test_one_request_tries_while_the_others_go_elsewhere(autojump_clock: MockClock) -> None:
    slow = Answer("first", before_first_delta_s=5.0)
    script: Iterator[str | Answer | Exception] = iter([down(), down(), down(), slow, "first"])
    first = ScriptedProvider(lambda _: next(script))
    chain = two(first, ScriptedProvider(lambda _: "second"))
    for _ in range(3):
        await answer_of(chain)
    await trio.sleep(60)
    answers: list[str] = []

    async def one() -> None:
        answers.append(await answer_of(chain))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert sorted(answers) == ["first", "second", "second", "second"]
    assert await answer_of(chain) == "first"


async def test_a_cancelled_try_does_not_keep_the_circuit_open(autojump_clock: MockClock) -> None:
    script: Iterator[str | Answer | Exception] = iter(
        [down(), down(), down(), Answer("never", fault=Stall(0)), "first"]
    )
    chain = two(ScriptedProvider(lambda _: next(script)), ScriptedProvider(lambda _: "second"))
    for _ in range(3):
        await answer_of(chain)
    await trio.sleep(60)
    with trio.move_on_after(5) as scope:
        await answer_of(chain)
    assert scope.cancelled_caught
    assert await answer_of(chain) == "first"


async def test_a_service_that_wants_to_be_left_alone_is_passed_over(
    autojump_clock: MockClock,
) -> None:
    limiter = Limiter()
    script: Iterator[str | Answer | Exception] = iter(
        [RateLimited("slow", provider="one", retry_after_s=40.0), "first"]
    )
    first = ScriptedProvider(lambda _: next(script))
    chain = Fallback(
        [
            candidate(Limited(first, limiter), "first-model", pause_s=limiter.pause_s),
            candidate(ScriptedProvider(lambda _: "second"), "second-model"),
        ]
    )
    started = trio.current_time()
    assert [await answer_of(chain) for _ in range(3)] == ["second"] * 3
    assert trio.current_time() == started
    await trio.sleep(40)
    assert await answer_of(chain) == "first"


async def test_if_nobody_answers_all_are_asked_again_later(autojump_clock: MockClock) -> None:
    first = ScriptedProvider([down(), "first"], "one")
    second = ScriptedProvider([RateLimited("slow", provider="two", retry_after_s=9.0)], "two")
    provider = Retrying(two(first, second), random_number=lambda: 0.0)
    started = trio.current_time()
    assert await answer_of(provider) == "first"
    assert trio.current_time() == started + 1


async def test_what_is_raised_says_when_trying_again_helps(autojump_clock: MockClock) -> None:
    first = ScriptedProvider([RateLimited("slow", provider="one", retry_after_s=30.0)])
    second = ScriptedProvider([RateLimited("slow", provider="two", retry_after_s=9.0)])
    with pytest.raises(RateLimited) as caught:
        await answer_of(two(first, second))
    assert (caught.value.provider, caught.value.retry_after_s) == ("one", 9.0)


async def test_a_wrong_key_and_a_broken_service_are_worth_another_try(
    autojump_clock: MockClock,
) -> None:
    first = ScriptedProvider(lambda _: AuthenticationFailed("key", provider="one"))
    second = ScriptedProvider([down(), "second"])
    provider = Retrying(two(first, second), random_number=lambda: 0.0)
    assert await answer_of(provider) == "second"


async def test_when_all_are_left_alone_the_error_says_until_when(
    autojump_clock: MockClock,
) -> None:
    chain = two(ScriptedProvider(lambda _: down()), ScriptedProvider(lambda _: down()))
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="down"):
            await answer_of(chain)
    await trio.sleep(20)
    with pytest.raises(ServiceUnavailable, match="left alone") as caught:
        await answer_of(chain)
    assert caught.value.retry_after_s == 40.0


async def test_closing_closes_each_provider_once() -> None:
    shared, other = ScriptedProvider([], "one"), ScriptedProvider([], "two")
    inner = Primed(shared)
    chain = Fallback(
        [
            Candidate(
                provider=provider,
                model=model,
                max_tokens=None,
                temperature=None,
                reasoning_effort=None,
                circuit=Circuit(),
            )
            for provider, model in ((inner, "a"), (inner, "b"), (Primed(other), "c"))
        ]
    )
    assert chain.name == "one"
    await chain.aclose()
    assert (shared.closed, other.closed) == (True, True)
    with pytest.raises(ValueError, match="at least one"):
        Fallback([])
