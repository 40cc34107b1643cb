"""How a request asks for reasoning, by the model's name and a word."""

from __future__ import annotations

from typing import Any

import pytest

from nanobot.errors import InvalidArgument
from nanobot.messages import (
    AssistantMessage,
    Message,
    ThinkingBlock,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from nanobot.providers.anthropic._thinking import sampling_fields


def fields(
    model: str,
    effort: str | None = None,
    *,
    max_tokens: int | None = 8192,
    temperature: float | None = None,
    messages: tuple[Message, ...] = (),
) -> dict[str, Any]:
    return sampling_fields(
        model,
        messages,
        provider="acme",
        max_tokens=max_tokens,
        temperature=temperature,
        effort=effort,
    )


def budget(tokens: int, max_tokens: int) -> dict[str, Any]:
    return {
        "max_tokens": max_tokens,
        "thinking": {"type": "enabled", "budget_tokens": tokens},
    }


ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("effort", "tokens"),
    [
        ("minimal", 1024),
        ("low", 1024),
        ("medium", 4096),
        ("adaptive", 4096),
        ("high", 8192),
        ("xhigh", 8192),
        ("max", 8192),
    ],
)
def test_a_model_that_knows_budgets_gets_one_on_top_of_its_answers_room(
    effort: str, tokens: int
) -> None:
    assert fields("claude-opus-4-5", effort, max_tokens=4096) == budget(tokens, 4096 + tokens)


def test_the_largest_efforts_may_take_as_much_as_the_answer() -> None:
    assert fields("claude-opus-4-5", "high", max_tokens=20_000) == budget(20_000, 40_000)


def test_a_budget_leaves_half_of_what_the_model_can_to_the_answer() -> None:
    assert fields("claude-opus-4-5", "high", max_tokens=64_000) == budget(32_000, 64_000)
    assert fields("claude-opus-4-5", "low", max_tokens=64_000) == budget(1024, 64_000)


@pytest.mark.parametrize(
    ("effort", "word"), [("minimal", "low"), ("low", "low"), ("xhigh", "xhigh"), ("max", "max")]
)
def test_a_model_that_decides_by_itself_is_guided_by_the_word(effort: str, word: str) -> None:
    assert fields("claude-opus-5", effort) == {
        "max_tokens": 8192,
        "thinking": ADAPTIVE,
        "output_config": {"effort": word},
    }
    assert fields("claude-opus-5", "adaptive") == {"max_tokens": 8192, "thinking": ADAPTIVE}


def test_no_word_leaves_it_to_the_service_and_none_switches_it_off() -> None:
    plain = {"max_tokens": 8192}
    assert fields("claude-opus-5") == fields("claude-opus-4-5") == plain
    assert fields("claude-opus-5", "none") == {**plain, "thinking": {"type": "disabled"}}
    assert fields("claude-opus-4-5", "none") == plain


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-fable-5-1", "claude-opus-99"])
def test_what_cannot_be_switched_off_is_asked_for_as_little_as_can_be(model: str) -> None:
    found = fields(model, "none")
    assert found["thinking"] == ADAPTIVE
    assert found["output_config"] == {"effort": "low"}


@pytest.mark.parametrize("model", ["claude-3-5-haiku", "MiniMax-M2.7"])
def test_a_model_that_does_not_take_such_wishes_gets_none(model: str) -> None:
    assert fields(model, "high") == {"max_tokens": 8192}


def test_an_unknown_claude_is_taken_for_a_new_one_and_others_know_budgets() -> None:
    assert fields("claude-opus-99", "high")["thinking"] == ADAPTIVE
    assert fields("anthropic/claude-new:free", "high")["thinking"] == ADAPTIVE
    assert fields("kimi-for-coding", "low") == budget(1024, 8192 + 1024)


def test_a_word_without_a_budget_is_named_with_those_that_have_one() -> None:
    with pytest.raises(InvalidArgument, match=r"'extreme' is not one of none, minimal, low"):
        fields("claude-opus-4-5", "extreme")
    assert fields("claude-opus-5", "extreme")["output_config"] == {"effort": "extreme"}


@pytest.mark.parametrize(
    ("model", "limit"), [("claude-opus-4-5", 64_000), ("kimi-for-coding", 8192)]
)
def test_a_limit_is_always_sent(model: str, limit: int) -> None:
    assert fields(model, max_tokens=None) == {"max_tokens": limit}


@pytest.mark.parametrize(
    ("model", "effort", "given", "sent"),
    [
        ("claude-opus-4-5", None, 0.3, 0.3),
        ("claude-opus-4-5", "none", 0.3, 0.3),
        ("claude-opus-4-5", None, 1.7, 1.0),
        ("claude-opus-4-5", "low", 0.3, None),
        ("claude-opus-4-6", "low", 0.3, None),
        ("claude-opus-4-6", "none", 0.3, 0.3),
        ("claude-opus-5", None, 0.3, None),
        ("kimi-for-coding", None, 0.3, 0.3),
    ],
)
def test_a_temperature_is_sent_where_it_is_accepted(
    model: str, effort: str | None, given: float, sent: float | None
) -> None:
    assert fields(model, effort, temperature=given).get("temperature") == sent


CALL = AssistantMessage(tool_calls=(ToolCall("1", "read"),))
RESULT = ToolMessage("1", "read", "x")
SIGNED = ThinkingBlock("thinking", "hm", "sig", {"provider": "acme"})
THOUGHT = AssistantMessage(tool_calls=(ToolCall("1", "read"),), thinking=(SIGNED,))
THEIRS = AssistantMessage(
    tool_calls=(ToolCall("1", "read"),),
    thinking=(ThinkingBlock("thinking", "hm", "sig", {"provider": "other"}),),
)


@pytest.mark.parametrize(
    ("messages", "thinks"),
    [
        ((UserMessage("go"),), True),
        ((UserMessage("go"), CALL, RESULT, AssistantMessage("Done."), UserMessage("more")), True),
        ((UserMessage("go"), CALL, RESULT), False),
        ((UserMessage("go"), THEIRS, RESULT), False),
        ((UserMessage("go"), CALL, RESULT, UserMessage("Finish now.")), False),
        ((UserMessage("go"), THOUGHT, RESULT), True),
        ((UserMessage("go"), THOUGHT, RESULT, CALL, RESULT), True),
        ((UserMessage("go"), CALL, RESULT, THOUGHT, RESULT), False),
        ((UserMessage("before"), CALL, RESULT, UserMessage("x"), UserMessage("go")), True),
    ],
)
def test_a_budget_does_not_begin_in_the_middle_of_a_turn(
    messages: tuple[Message, ...], thinks: bool
) -> None:
    assert ("thinking" in fields("claude-opus-4-5", "low", messages=messages)) == thinks
    assert "thinking" in fields("claude-opus-5", "low", messages=messages)
