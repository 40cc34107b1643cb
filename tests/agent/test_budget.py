"""What a call may take under a budget: decided on estimates and prices, before the call."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.agent import Allowance, Budget, BudgetSpent, Purse, Tally
from nanobot.errors import InvalidArgument
from nanobot.messages import Usage, UserMessage
from nanobot.providers import ModelRequest

GPT = ("openai", "gpt-4.1")  # 2 dollars per million tokens of prompt, 8 of answer
CLAUDE = ("anthropic", "claude-opus-4-5")  # 5 and 25; 6.25 to write to the cache


def tally(prompt: int, *spent: Usage, asked: tuple[str, str] = GPT) -> Tally:
    """A tally that estimates each prompt at so many tokens, and has counted some requests."""
    made = Tally(lambda _messages, _tools: prompt)
    for usage in spent:
        spend(made, usage, asked)
    return made


def spend(made: Tally, usage: Usage, asked: tuple[str, str] = GPT) -> None:
    made.begin(ModelRequest(asked[1], ()))
    made.answering(asked[0])
    made.end("answered", usage)


def purse(asked: tuple[tuple[str, str], ...] = (GPT,), ratio: float = 1.0, **bounds: Any) -> Purse:
    return Purse([Allowance(budget=Budget(**bounds), of="run")], asked, ratio=ratio)


def request(max_tokens: int | None = 1000) -> ModelRequest:
    return ModelRequest("gpt-4.1", (UserMessage("hi"),), max_tokens=max_tokens)


def test_a_call_that_is_covered_is_made_as_it_is() -> None:
    asked = request()
    assert purse(tokens=1500).within(asked, tally(500)) is asked


def test_an_answer_may_be_as_long_as_what_is_left() -> None:
    assert purse(tokens=1499).within(request(), tally(500)).max_tokens == 999
    assert purse(tokens=1499).within(request(None), tally(500)).max_tokens == 999
    spent = tally(500, Usage(600, 100, 700))
    assert purse(tokens=1499).within(request(), spent).max_tokens == 299


def test_a_call_with_no_room_for_an_answer_is_not_made() -> None:
    with pytest.raises(BudgetSpent, match="0 of the 563 tokens of the run"):
        purse(tokens=563).within(request(), tally(500))
    assert purse(tokens=564).within(request(), tally(500)).max_tokens == 64
    short = request(10)  # whoever wants no more than that may have it
    assert purse(tokens=510).within(short, tally(500)) is short


def test_money_covers_prompt_and_answer_at_the_list_price() -> None:
    # 100,000 tokens of prompt are 0.2 dollars; what is left buys 1,000 tokens of answer
    assert purse(usd=0.208).within(request(9000), tally(100_000)).max_tokens == 1000
    with pytest.raises(BudgetSpent, match=r"\$0\.0000 of the \$0\.2 "):
        purse(usd=0.2).within(request(), tally(100_000))
    spent = tally(100_000, Usage(100_000, 1000, 101_000))
    assert purse(usd=0.416).within(request(9000), spent).max_tokens == 1000


def test_the_dearest_model_that_may_answer_counts_with_its_cache_written() -> None:
    # 100,000 tokens written to Claude's cache are 0.625 dollars; 0.025 buy 1,000 tokens of answer
    assert purse((GPT, CLAUDE), usd=0.65).within(request(9000), tally(100_000)).max_tokens == 1000


def test_money_needs_prices() -> None:
    with pytest.raises(BudgetSpent, match=r"not every price of .*, mystery is known"):
        purse((GPT, ("acme", "mystery")), usd=5).within(request(), tally(1))


def test_what_the_session_spent_before_counts_too() -> None:
    both = Purse(
        [
            Allowance(budget=Budget(tokens=5000), of="run"),
            Allowance(budget=Budget(tokens=9000), of="session", spent_tokens=8000),
        ],
        (GPT,),
    )
    assert both.within(request(), tally(500)).max_tokens == 500
    with pytest.raises(BudgetSpent, match="8400 of the 9000 tokens of the session"):
        both.within(request(), tally(550, Usage(300, 100, 400)))


def test_a_model_that_counts_more_tokens_than_estimated_is_believed() -> None:
    assert purse(ratio=1.5, tokens=1000).within(request(), tally(500)).max_tokens == 250


@pytest.mark.parametrize(
    "wrong", [{"tokens": 0}, {"tokens": -1}, {"usd": 0.0}, {"usd": float("nan")}]
)
def test_a_budget_of_nothing_is_a_mistake(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Budget(**wrong)


@given(
    st.integers(1, 5000),
    st.integers(0, 3000),
    st.integers(1, 3000),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)), max_size=4),
)
def test_no_call_that_is_made_can_pass_the_budget(
    tokens: int, prompt: int, max_tokens: int, spent: list[tuple[int, int]]
) -> None:
    before = tally(prompt, *[Usage(one, other, one + other) for one, other in spent])
    gone = before.usage.total_tokens
    try:
        made = purse(tokens=tokens).within(request(max_tokens), before)
    except BudgetSpent:
        assert gone + max(prompt, before.last_prompt_tokens) + min(64, max_tokens) > tokens
        return
    assert made.max_tokens is not None
    assert gone + prompt + made.max_tokens <= tokens


async def test_two_that_draw_on_one_purse_cannot_pass_it_together(
    autojump_clock: MockClock,
) -> None:
    shared, one, other = purse(tokens=3000), tally(500), tally(500)
    shared.join(one)
    shared.join(other)
    assert (await shared.draw(request(), one)).max_tokens == 1000
    assert (await shared.draw(request(), other)).max_tokens == 1000  # 3,000 are set aside
    shared.put_back(other)
    spend(other, Usage(500, 600, 1100))
    with trio.move_on_after(5) as waiting:
        await shared.draw(request(), other)  # 400 are left, and perhaps more soon
    assert waiting.cancelled_caught
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(5)
            spend(one, Usage(500, 300, 800))
            shared.put_back(one)

        nursery.start_soon(end)
        assert (await shared.draw(request(), other)).max_tokens == 600  # of 1,100
    shared.put_back(other)
    shared.leave(one)
    other.include(one)
    assert (await shared.draw(request(), other)).max_tokens == 600


async def test_nobody_waits_for_what_cannot_be(autojump_clock: MockClock) -> None:
    shared, one, other = purse(tokens=3000), tally(500), tally(3000)
    shared.join(one)
    shared.join(other)
    await shared.draw(request(), one)
    shared.put_back(one)
    with pytest.raises(BudgetSpent):
        await shared.draw(request(), other)


async def test_money_is_set_aside_too(autojump_clock: MockClock) -> None:
    # 100,000 tokens of prompt and 1,000 of answer are 0.208 dollars
    shared, one, other = purse(usd=0.3), tally(100_000), tally(10_000)
    shared.join(one)
    shared.join(other)
    await shared.draw(request(), one)
    # 0.092 are left; 10,000 and 1,000 tokens are 0.028
    assert (await shared.draw(request(), other)).max_tokens == 1000
    shared.put_back(other)
    with trio.move_on_after(5) as waiting:
        await shared.draw(request(9500), other)
    assert waiting.cancelled_caught
    shared.put_back(one)
    assert (await shared.draw(request(9500), other)).max_tokens == 9500
