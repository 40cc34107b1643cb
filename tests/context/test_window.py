"""What fits is whole turns, the latest ones, and always the current one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from hypothesis import given
from hypothesis import strategies as st

from nanobot.context import Window, fit, history_budget, message_tokens
from nanobot.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolMessage,
    UserMessage,
    check,
    repair,
)


def tokens_of(message: Message) -> int:
    """A token per character, so that tests can count."""
    assert isinstance(message.content, str)
    return len(message.content)


messages = st.one_of(
    st.builds(UserMessage, st.text("u", min_size=1, max_size=5)),
    st.builds(
        AssistantMessage,
        st.text("a", max_size=5),
        st.lists(st.builds(ToolCall, st.sampled_from("xyz"), st.just("f")), max_size=2).map(tuple),
    ),
    st.builds(ToolMessage, st.sampled_from("xyz"), st.just("f"), st.text("r", max_size=5)),
)
legal_histories = st.lists(messages, max_size=20).map(
    lambda said: list(repair([UserMessage("u"), *said]).history)
)


def last_user_message(history: Sequence[Message]) -> int:
    return max(at for at, message in enumerate(history) if isinstance(message, UserMessage))


@given(legal_histories, st.integers(0, 200))
def test_the_window_is_the_longest_run_of_whole_turns_that_fits(
    history: list[Message], budget: int
) -> None:
    window = fit(history, budget, tokens_of)
    opening = last_user_message(history)
    starts = [at for at in range(opening + 1) if at == 0 or isinstance(history[at], UserMessage)]
    costs = {at: sum(map(tokens_of, history[at:])) for at in starts}
    fitting = [at for at in starts if costs[at] <= budget]
    expected = min(fitting, default=opening)
    assert window == Window(expected, costs[expected], bool(fitting))


@given(legal_histories, st.integers(0, 200))
def test_no_call_is_parted_from_its_result(history: list[Message], budget: int) -> None:
    assert check(history[fit(history, budget, tokens_of).start :]) == ()


@given(legal_histories, st.integers(0, 200), st.data())
def test_a_turn_that_the_caller_names_is_kept_whole(
    history: list[Message], budget: int, data: st.DataObject
) -> None:
    opening = data.draw(
        st.integers(0, last_user_message(history)).filter(
            lambda at: isinstance(history[at], UserMessage)
        )
    )
    assert fit(history, budget, tokens_of, current=opening).start <= opening


class Counted(Sequence[Message]):
    """A history that knows which of its messages were looked at."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.seen: set[int] = set()

    def __len__(self) -> int:
        return len(self.messages)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | Sequence[Message]:
        assert isinstance(index, int)
        self.seen.add(index)
        return self.messages[index]

    def __iter__(self) -> Iterator[Message]:
        raise AssertionError("the whole history was read")


def test_a_long_history_is_read_only_as_far_as_it_is_shown() -> None:
    history = Counted([UserMessage("u" * 10) for _ in range(5_000)])
    assert fit(history, 55, tokens_of).start == 4_995
    assert min(history.seen) == 4_994


def test_an_empty_history_fits() -> None:
    assert fit([], 0, tokens_of) == Window(0, 0, True)


def test_a_turn_that_is_too_long_by_itself_is_kept_and_said_not_to_fit() -> None:
    history: list[Message] = [
        UserMessage("old"),
        AssistantMessage("old"),
        UserMessage("u" * 50),
        AssistantMessage("a" * 50),
    ]
    assert fit(history, 10, tokens_of) == Window(2, 100, False)


def test_the_budget_is_what_the_answer_and_the_prompt_leave() -> None:
    assert history_budget(200_000, 8_192) == 190_784
    assert history_budget(200_000, 8_192, fixed_tokens=784) == 190_000
    assert history_budget(2_048, 8_192) == 0


def test_it_works_with_the_tokens_of_real_messages() -> None:
    history: list[Message] = [
        UserMessage("x" * 3_500),
        AssistantMessage("ok"),
        UserMessage("now"),
        AssistantMessage("yes"),
    ]
    assert fit(history, 500, message_tokens).start == 2
    assert fit(history, 1_500, message_tokens).start == 0
