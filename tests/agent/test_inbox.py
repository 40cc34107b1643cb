"""What reaches a turn from outside: shown between answers, all of it before the last, and ended with the turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from nanobot.agent import Limits
from nanobot.errors import StoreError
from nanobot.messages import Message, UserMessage
from nanobot.testing import Answer, ScriptedProvider
from tests.agent.stage import Notebook, Reader, check_events, check_legal, check_story, stage

SLOW = Answer("Hm.", tool_calls=[("slow", {"seconds": 5.0})])


class Post:
    """An inbox with letters that come after so many seconds each, counted from the first look."""

    def __init__(self, *after_s: float) -> None:
        self.after_s = sorted(after_s)
        self.closed = False
        self.taken = 0
        self.started: float | None = None

    def _now(self) -> float:
        if self.started is None:
            self.started = trio.current_time()
        return trio.current_time() - self.started

    @property
    def ready(self) -> bool:
        return not self.closed and self.taken < sum(
            after_s <= self._now() for after_s in self.after_s
        )

    @property
    def expecting(self) -> bool:
        self._now()
        return not self.closed and self.taken < len(self.after_s)

    async def take(self) -> Sequence[Message]:
        await trio.lowlevel.checkpoint()
        came = sum(after_s <= self._now() for after_s in self.after_s)
        letters = [UserMessage(f"letter {n}") for n in range(self.taken, came)]
        self.taken = came
        return letters

    async def wait(self) -> None:
        if self.expecting:
            await trio.sleep(max(0.0, self.after_s[-1] - self._now()))

    async def aclose(self) -> None:
        self.closed = True


async def test_letters_are_shown_between_answers_and_the_last_before_the_end(
    autojump_clock: MockClock,
) -> None:
    provider = ScriptedProvider([SLOW, SLOW, "I wait.", "The end."])
    reader, journal, post = Reader(), Notebook(), Post(3, 4, 100)
    result = await stage(provider, emit=reader, journal=journal, inbox=post).run()
    assert (result.content, result.stop_reason) == ("The end.", "completed")
    assert trio.current_time() >= 100
    said = [str(message.content) for message in journal.messages]
    assert said == [
        "What is it?",
        "Hm.",
        "at last",
        "letter 0",
        "letter 1",
        "Hm.",
        "at last",
        "I wait.",
        "letter 2",
        "The end.",
    ]
    assert [len(request.messages) for request in provider.requests] == [2, 6, 8, 10]
    check_events(reader.events)
    check_legal(journal.messages)
    check_story(result, journal)
    completed = [(e.content, e.resuming) for e in reader.of("text.completed")]
    assert completed == [("Hm.", True), ("Hm.", True), ("I wait.", True), ("The end.", False)]


async def test_a_turn_without_answers_left_shows_all_letters_in_its_last(
    autojump_clock: MockClock,
) -> None:
    provider = ScriptedProvider([SLOW, "The end."])
    post = Post(50)
    result = await stage(provider, inbox=post, limits=Limits(max_iterations=1)).run()
    assert (result.content, result.stop_reason) == ("The end.", "max_iterations")
    assert provider.requests[-1].messages[-2].content == "letter 0"


async def test_a_model_that_says_nothing_while_it_waits_is_not_given_up(
    autojump_clock: MockClock,
) -> None:
    provider = ScriptedProvider(["", "", "", "The end."])
    reader, journal = Reader(), Notebook()
    result = await stage(provider, emit=reader, journal=journal, inbox=Post(50)).run()
    assert (result.content, result.stop_reason) == ("The end.", "completed")
    check_events(reader.events)
    check_legal(journal.messages)


@pytest.mark.parametrize("how", ["timeout", "error", "store"])
async def test_however_a_turn_ends_its_inbox_is_closed_first(
    how: str, autojump_clock: MockClock
) -> None:
    class Counting(Post):
        async def aclose(self) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            await super().aclose()
            ended.append(trio.current_time())

    ended: list[float] = []
    answers = [SLOW, ValueError("bug") if how == "error" else "I wait.", "The end."]
    post = Counting(0, 1000)
    journal = Notebook(fails_at=3, error=StoreError("full")) if how == "store" else Notebook()
    limits = Limits(timeout_s=100 if how == "timeout" else None)
    turn = stage(ScriptedProvider(answers), inbox=post, journal=journal, limits=limits)
    if how == "error":
        with pytest.raises(ValueError, match="bug"):
            await turn.run()
    else:
        result = await turn.run()
        assert result.stop_reason == ("timeout" if how == "timeout" else "completed")
    assert post.closed == (how != "store")
    assert bool(ended) == (how != "store")  # a turn that got its answer has waited for everything
    check_legal(journal.messages)


@given(
    after_s=st.lists(st.integers(0, 20), max_size=4),
    rounds=st.integers(0, 3),
    cancel_after_s=st.floats(0, 30),
)
def test_whenever_it_is_cancelled_what_is_kept_is_legal_and_told(
    after_s: list[int], rounds: int, cancel_after_s: float
) -> None:
    async def main() -> None:
        provider = ScriptedProvider([*[SLOW] * rounds, *["I wait."] * 5, "The end."])
        reader, journal, post = Reader(), Notebook(), Post(*after_s)
        turn = stage(provider, emit=reader, journal=journal, inbox=post)
        with trio.move_on_after(cancel_after_s) as scope:
            await turn.run()
        result = turn.result("cancelled")
        check_events(reader.events)
        check_legal(journal.messages)
        assert post.closed or not scope.cancelled_caught
        if not scope.cancelled_caught:
            assert post.taken == len(after_s)
            check_story(result, journal)

    trio.run(main, clock=MockClock(autojump_threshold=0))
