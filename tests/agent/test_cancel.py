"""A turn may be cancelled anywhere; what it leaves behind is complete each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from nanobot.agent import AgentHook, Limits, RunResult, Turn
from nanobot.messages import ToolMessage
from nanobot.testing import Answer, ScriptedProvider
from tests.agent.stage import (
    Notebook,
    Reader,
    answers_in,
    check_events,
    check_legal,
    check_story,
    spoken,
    stage,
    text_of,
)
from tests.agent.test_hooks import Diary


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope just before the n-th step that any task of the run takes, from the moment it is armed."""

    def __init__(self, step: int) -> None:
        self.steps_left = step
        self.scope: trio.CancelScope | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is None:
            return
        if self.steps_left == 0:
            self.scope.cancel()
        self.steps_left -= 1


LIMITS = Limits(settle_s=2)

THREE_TOOLS = [
    Answer(
        ["Let me ", "look."],
        reasoning="Three things.",
        tool_calls=[
            ("echo", {"text": "a"}),
            ("slow", {"seconds": 0.01}),
            ("change", {"text": "b"}),
        ],
    ),
    Answer(["All ", "three ", "done."]),
]


class Outcome:
    """What one run left behind."""

    def __init__(self, hooks: Sequence[AgentHook]) -> None:
        self.provider = ScriptedProvider(THREE_TOOLS)
        self.journal = Notebook()
        self.reader = Reader()
        self.hooks = hooks
        self.result: RunResult | None = None
        self.cancelled = False

    async def run(self, instrument: CancelAtStep) -> None:
        turn = stage(self.provider, journal=self.journal, emit=self.reader, hooks=self.hooks)
        with trio.CancelScope() as scope:
            instrument.scope = scope
            self.result = await turn.run()
        instrument.scope = None
        if scope.cancelled_caught:
            self.cancelled = True
            self.result = turn.result("cancelled")

    def check(self) -> None:
        assert self.result is not None
        check_legal(self.journal.messages)
        check_story(self.result, self.journal)
        check_events(self.reader.events)
        assert self.provider.streams_open == 0
        last = self.reader.events[-1]
        assert self.result.usage == last.usage
        accepted = self.result.metadata["request_count"]
        assert (self.result.usage["total_tokens"] > 0) == (accepted > 0)
        if not self.cancelled:
            assert self.result.content == "All three done."
            return
        assert (self.result.stop_reason, last.metadata["reason"]) == ("cancelled", "cancelled")
        assert self.result.error == last.error == "The run was cancelled."
        assert self.result.content == last.content
        assert last.iteration is not None
        if self.result.content:
            assert self.result.content == text_of(self.reader.events, last.iteration)
        for message in answers_in(self.journal.messages):
            complete = message.tool_calls or message.content == "All three done."
            assert message.interrupted == (not complete) or message.content == "All three done."


async def cancel_at(step: int, hooks: Sequence[AgentHook]) -> tuple[CancelAtStep, Outcome]:
    instrument, outcome = CancelAtStep(step), Outcome(hooks)
    trio.lowlevel.add_instrument(instrument)
    try:
        await outcome.run(instrument)
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument, outcome


@pytest.mark.parametrize("with_hooks", [False, True])
def test_cancelled_at_any_checkpoint_a_turn_leaves_a_legal_history_and_a_complete_story(
    with_hooks: bool,
) -> None:
    step = 0
    not_reached = 0
    cancelled: list[int] = []
    while not_reached < 10:  # the order of tasks varies, and with it the number of steps
        diary = Diary()
        hooks = [diary] if with_hooks else []
        clock = MockClock(autojump_threshold=0)
        instrument, outcome = trio.run(cancel_at, step, hooks, clock=clock)
        try:
            outcome.check()
            assert not with_hooks or diary.lines.count("on_finally") == 1
        except AssertionError as error:
            raise AssertionError(f"cancelled at step {step}: {outcome.reader.types}") from error
        if outcome.cancelled:
            cancelled.append(step)
        not_reached = not_reached + 1 if instrument.steps_left >= 0 else 0
        step += 1
    assert len(cancelled) > (60 if with_hooks else 40), (
        "few checkpoints: does it still cancel where it should?"
    )


async def test_after_a_cancel_every_call_has_the_outcome_it_had(autojump_clock: MockClock) -> None:
    calls: list[tuple[str, dict[str, object]]] = [
        ("change", {"text": "a"}),
        ("slow", {"seconds": 5}),
        ("change", {"text": "b"}),
    ]
    journal, reader = Notebook(), Reader()
    turn = stage(
        ScriptedProvider([Answer("On it.", tool_calls=calls)]), journal=journal, emit=reader
    )
    with trio.move_on_after(1):
        await turn.run()
    outcomes = [message.outcome for message in journal.messages if isinstance(message, ToolMessage)]
    assert outcomes == ["ok", "interrupted_may_have_run", "cancelled_before_start"]
    [answer] = answers_in(journal.messages)
    assert not answer.interrupted  # the model had finished
    result = turn.result("cancelled")
    assert (result.content, result.tools_used) == ("On it.", ["change"])
    ends = [
        (event.type, event.metadata["outcome"]) for event in reader.events if event.type in ENDS
    ]
    assert ends == [("tool.completed", "ok"), ("tool.failed", "interrupted_may_have_run")]
    check_events(reader.events)


ENDS = ("tool.completed", "tool.failed")


async def test_the_partial_answer_is_kept_and_marked(autojump_clock: MockClock) -> None:
    journal = Notebook()
    turn = stage(ScriptedProvider([Answer(["one ", "two"], between_deltas_s=10)]), journal=journal)
    with trio.move_on_after(1):
        await turn.run()
    assert spoken(journal.messages) == ["user: What is it?", "assistant: one "]
    assert answers_in(journal.messages)[0].interrupted
    assert turn.result("cancelled").content == "one "
    assert turn.result("cancelled") is turn.result("cancelled")


async def test_a_run_cancelled_before_it_began_has_kept_the_users_message() -> None:
    journal, reader = Notebook(), Reader()
    turn = stage(ScriptedProvider(["ok"]), journal=journal, emit=reader)
    with trio.CancelScope() as scope:
        scope.cancel()
        await turn.run()
    assert spoken(journal.messages) == ["user: What is it?"]
    assert reader.types == ["run.started", "run.failed"]


async def _hang(*args: object) -> None:
    await trio.sleep_forever()


class HangingJournal(Notebook):
    """Works until the turn is cancelled, and then never again."""

    async def record(
        self, messages: Sequence[object], open_turn: object = None, *, last: bool = False
    ) -> None:
        if self.calls:
            await trio.sleep_forever()
        await super().record(messages)  # type: ignore[arg-type]  # narrower than it has to be


class HangingFilter(AgentHook):
    async def finalize_content(self, context: object, content: str) -> str:
        await trio.sleep_forever()
        return content


@pytest.mark.parametrize(
    ("make", "seconds", "kept"),
    [
        (lambda provider: stage(provider, journal=HangingJournal(), limits=LIMITS), 2, "one "),
        (lambda provider: stage(provider, hooks=[HangingFilter()], limits=LIMITS), 2, ""),
    ],
)
async def test_a_cancel_waits_for_nobody_longer_than_allowed(
    make: Callable[[ScriptedProvider], Turn], seconds: float, kept: str, autojump_clock: MockClock
) -> None:
    turn = make(ScriptedProvider([Answer(["one ", "two"], between_deltas_s=10)]))
    with trio.move_on_after(1):
        await turn.run()
    assert trio.current_time() == pytest.approx(1 + seconds)
    assert turn.result("cancelled").content == kept
