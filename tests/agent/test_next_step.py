"""What a turn does with an answer, decided on plain facts."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.agent import Limits
from nanobot.agent._next_step import Step, next_step
from nanobot.errors import InvalidArgument
from nanobot.messages import FinishReason

REASONS: list[FinishReason] = list(get_args(FinishReason))


def decide(
    finish_reason: FinishReason,
    *,
    text: bool = False,
    calls: bool = False,
    closing: bool = False,
    continuations: int = 0,
    empty_answers: int = 0,
) -> Step:
    return next_step(
        finish_reason,
        has_text=text,
        has_calls=calls,
        closing=closing,
        continuations=continuations,
        empty_answers=empty_answers,
        limits=Limits(),
    )


@pytest.mark.parametrize("finish_reason", ["stop", "tool_calls", "unknown"])
def test_calls_of_a_model_that_meant_to_stop_are_run(finish_reason: FinishReason) -> None:
    assert decide(finish_reason, calls=True) is Step.RUN_TOOLS
    assert decide(finish_reason, calls=True, text=True) is Step.RUN_TOOLS


def test_calls_of_an_answer_that_was_cut_off_are_never_run() -> None:
    assert decide("length", calls=True) is Step.REFUSE_CALLS
    assert decide("content_filter", calls=True) is Step.FILTERED


def test_calls_are_ignored_where_tools_were_forbidden() -> None:
    assert decide("tool_calls", calls=True, closing=True) is Step.GIVE_UP
    assert decide("tool_calls", calls=True, text=True, closing=True) is Step.ANSWERED


def test_a_text_that_was_cut_off_is_continued_three_times_and_then_stands() -> None:
    steps = [decide("length", text=True, continuations=n) for n in range(5)]
    assert steps == [Step.CONTINUE] * 3 + [Step.ANSWERED] * 2


def test_an_empty_answer_is_asked_for_again_then_in_words_then_given_up() -> None:
    assert decide("stop") is Step.ASK_AGAIN
    assert decide("stop", empty_answers=1) is Step.ASK_PLAINLY
    assert decide("stop", empty_answers=1, closing=True) is Step.GIVE_UP


def test_reasoning_that_used_up_all_tokens_is_an_empty_answer() -> None:
    assert decide("length") is Step.ASK_AGAIN


@given(
    reason=st.sampled_from(REASONS),
    facts=st.fixed_dictionaries(
        {"text": st.booleans(), "calls": st.booleans(), "closing": st.booleans()}
    ),
    continuations=st.integers(0, 10),
    empty_answers=st.integers(0, 10),
)
def test_asking_again_always_comes_to_an_end(
    reason: FinishReason, facts: dict[str, bool], continuations: int, empty_answers: int
) -> None:
    """However the model answers, each step that asks once more brings a bound nearer."""
    for _ in range(10):
        step = decide(reason, **facts, continuations=continuations, empty_answers=empty_answers)
        if step is Step.CONTINUE:
            continuations += 1
        elif step is Step.ASK_AGAIN:
            empty_answers += 1
        elif step is Step.ASK_PLAINLY:
            facts = {**facts, "closing": True}
        else:
            return
    pytest.fail("it goes on asking")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"max_iterations": 0}, "max_iterations must be at least 1, not 0"),
        ({"timeout_s": 0.0}, "timeout_s must be more than 0 seconds"),
        ({"timeout_s": float("nan")}, "timeout_s must be more than 0 seconds"),
        ({"max_continuations": -1}, "cannot be negative"),
        ({"settle_s": float("inf")}, "settle_s must be a positive number"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        Limits(**wrong)  # type: ignore[arg-type]  # what a caller without a type checker would pass
