"""The ledger: one line per attempt, whatever happens, and sums that are the sums of the lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nanobot.agent import Tally, estimate_by_length
from nanobot.errors import ConnectionFailed, RateLimited
from nanobot.messages import AssistantMessage, Usage, UserMessage
from nanobot.providers import ModelRequest
from nanobot.providers._cost import cost_usd

REQUEST = ModelRequest("gpt-4.1", (UserMessage("x" * 400),))


def test_a_provider_that_tells_nothing_makes_one_attempt() -> None:
    tally = Tally(estimate_by_length)
    tally.begin(REQUEST)
    tally.answering("openai")
    tally.end("answered", Usage(10, 5, 15))
    (attempt,) = tally.attempts
    assert (attempt.provider, attempt.model, attempt.outcome) == ("openai", "gpt-4.1", "answered")
    assert (tally.request_count, tally.usage, tally.estimated) == (1, Usage(10, 5, 15), False)
    assert tally.cost_usd == attempt.cost_usd == pytest.approx(10 * 2e-6 + 5 * 8e-6)


def test_a_provider_that_tells_of_its_attempts_has_a_line_for_each() -> None:
    tally = Tally(estimate_by_length)
    tally.start_iteration(3)
    tally.begin(REQUEST)
    tally.asking("openai", REQUEST)
    tally.failed(RateLimited("slow", provider="openai"), None)
    tally.asking("openai", REQUEST)
    tally.accepted()
    tally.failed(ConnectionFailed("gone", provider="openai"), Usage(50, 0, 50))
    other = ModelRequest("claude-opus-4-5", REQUEST.messages)
    tally.asking("anthropic", other)
    tally.accepted()
    tally.answering("openai")
    assert tally.answered_by == ("anthropic", "claude-opus-4-5")
    tally.end("answered", None, said=AssistantMessage("hello"))
    assert [
        (one.outcome, one.error, one.accepted, one.estimated, one.iteration)
        for one in tally.attempts
    ] == [
        ("failed", "RateLimited", False, False, 3),
        ("failed", "ConnectionFailed", True, False, 3),
        ("answered", None, True, True, 3),
    ]
    assert tally.request_count == 2
    lines = [one.usage for one in tally.attempts if one.usage is not None]
    assert sum(usage.total_tokens for usage in lines) == tally.usage.total_tokens
    assert tally.usage.prompt_tokens > 150  # 50 as reported, and some 100 estimated


@pytest.mark.parametrize("told", [False, True])
def test_a_refusal_and_a_cancel_have_a_line_each_and_no_second_one(told: bool) -> None:
    error = RateLimited("slow", provider="p")
    tally = Tally(estimate_by_length)
    ends: list[Callable[[], None]] = [
        lambda: tally.refused("p", error),
        lambda: tally.broken_off("p"),
    ]
    for end in ends:
        tally.begin(REQUEST)
        if told:
            tally.asking("p", REQUEST)
        end()
        tally.end("answered", Usage(1, 1, 2))  # nothing is open: without effect
    assert [one.outcome for one in tally.attempts] == ["failed", "cancelled"]
    assert (tally.request_count, tally.usage.total_tokens, tally.cost_usd) == (0, 0, 0.0)


def test_a_sum_with_an_unknown_price_is_unknown() -> None:
    tally = Tally(estimate_by_length)
    for provider, model in (("openai", "gpt-4.1"), ("acme", "mystery")):
        tally.begin(ModelRequest(model, ()))
        tally.answering(provider)
        tally.end("answered", Usage(1, 1, 2))
    assert [one.cost_usd is None for one in tally.attempts] == [False, True]
    assert tally.cost_usd is None


def test_what_is_read_from_a_cache_and_written_to_it_has_its_own_price() -> None:
    usage = Usage(1_000_000, 10_000, 1_010_000, cached_tokens=600_000, cache_write_tokens=300_000)
    paid = 0.1 * 5 + 0.6 * 0.5 + 0.3 * 6.25 + 0.01 * 25
    assert cost_usd("anthropic", "claude-opus-4-5", usage) == pytest.approx(paid)
    # no price for writing is known here: it costs what the rest of the prompt does
    assert cost_usd("openai", "gpt-4.1", usage) == pytest.approx(0.4 * 2 + 0.6 * 0.5 + 0.01 * 8)
    assert cost_usd("openrouter", "openai/gpt-4.1", usage) is None


def test_what_is_written_down_has_what_subagents_at_work_have_cost_by_then() -> None:
    def spends(tally: Tally, tokens: int) -> None:
        tally.begin(REQUEST)
        tally.answering("openai")
        tally.end("answered", Usage(tokens, 0, tokens))

    outer = Tally(estimate_by_length)
    spends(outer, 100)
    inside, innermost = outer.another(), outer.another()
    outer.join(inside)
    inside.join(innermost)
    spends(inside, 20)
    spends(innermost, 3)
    inside.begin(REQUEST)
    inside.asking("openai", REQUEST)  # under way: what it costs is not known yet
    written = outer.to_ledger()
    assert outer.usage.total_tokens == 100  # what the run has is counted once they end
    gone_on = Tally(estimate_by_length)
    gone_on.go_on_from(written)
    assert (gone_on.usage.total_tokens, gone_on.request_count) == (123, 3)
    assert (gone_on.subagents, gone_on.subagent_usage.total_tokens) == (2, 23)

    inside.accepted()
    inside.end("cancelled", Usage(1, 0, 1))
    inside.include(innermost)
    outer.include(inside)
    assert outer.usage.total_tokens == 124
    ended = outer.to_ledger()
    assert (ended.subagents, ended.subagent_usage.total_tokens) == (2, 24)
    assert sum(one.usage.total_tokens for one in ended.attempts if one.usage is not None) == 124
