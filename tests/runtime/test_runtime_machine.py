"""The live system under every order of posting, nesting, cancelling and waiting that hypothesis can think of.

A Trio run is stepped from synchronous rules: it is a guest of this thread, and each rule lets it run until all its tasks are
blocked. Time is virtual. So each step is deterministic and a failing story shrinks to a few lines.
"""

from __future__ import annotations

import contextvars
import queue
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from actors import Call, CreditReader, CreditStream, trio_home
from nanobot.agent import RunResult, StreamEvent
from nanobot.errors import NestedRunRefused, SessionBusy
from nanobot.messages import UserMessage
from nanobot.runtime import CURRENT_RUN, OnBusy, Run, Runtime, Steering

WINDOW = 2
EVENTS = 6


class SteppedRun:
    """A Trio run that moves only when told to."""

    def __init__(self, main: Callable[[], Any]) -> None:
        self._due: queue.Queue[Callable[[], object]] = queue.Queue()
        self.clock = MockClock()
        self.ended = False
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=self._due.put,
            done_callback=self._end,
            clock=self.clock,
            host_uses_signal_set_wakeup_fd=True,
        )
        self._token: trio.lowlevel.TrioToken | None = None

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in the run and let the run settle."""
        assert self._token is not None
        self._token.run_sync_soon(lambda: function(*args))
        self.settle()

    def jump(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.call(lambda: None)

    def settle(self) -> None:
        """Run until every task is blocked."""
        blocked: list[bool] = []

        async def watch() -> None:
            await wait_all_tasks_blocked()
            blocked.append(True)

        def start() -> None:
            trio.lowlevel.spawn_system_task(watch)

        if self._token is None:
            self._due.put(self._find_token)
            while self._token is None:
                self._due.get(timeout=10)()
        self._token.run_sync_soon(start)
        while not blocked and not self.ended:
            self._due.get(timeout=10)()

    def finish(self) -> None:
        while not self.ended:
            self._due.get(timeout=10)()

    def _find_token(self) -> None:
        try:
            self._token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            self._due.put(self._find_token)  # the first tick has not happened yet

    def _end(self, outcome: Any) -> None:
        self.ended = True
        outcome.unwrap()


async def until_settled(call: Call[Any]) -> None:
    settled = trio.Event()
    call.on_settled(settled.set)
    await settled.wait()


class Story:
    """One run's plan and what happened to it."""

    def __init__(self, number: int, key: str, exclusive: bool, stays: int, streams: bool) -> None:
        self.number = number
        self.key = key
        self.exclusive = exclusive
        self.stays = stays
        self.stream = CreditStream[StreamEvent](window=WINDOW) if streams else None
        self.reader = (
            CreditReader(self.stream, self.stream.give_credit) if self.stream is not None else None
        )
        self.nested: list[Story] = []
        self.run: Run | None = None
        self.waits_for_nested = True
        self.settled = 0
        self.refused = False
        self.cancelled = False
        self.on_busy: OnBusy = "wait"
        self.tenant: str | None = None
        self.heard = 0
        self.started = 0


class RuntimeMachine(RuleBasedStateMachine):
    """Invariants of the runtime, checked after each step and at the end."""

    @initialize(places=st.sampled_from([None, 1, 2]))
    def boot(self, places: int | None) -> None:
        self.stories: list[Story] = []
        self.started: dict[str, list[int]] = defaultdict(list)
        self.inside: dict[str, list[Story]] = defaultdict(list)
        self.broken: list[str] = []
        self.runtime: Runtime | None = None
        self.steering = Steering()

        async def main() -> None:
            async def on_stop() -> None:
                await trio.lowlevel.checkpoint()

            runtime = Runtime(
                trio_home(),
                on_stop=on_stop,
                idle_s=5,
                max_concurrent_runs=places,
                max_queued_runs=3,
                steering=self.steering,
            )
            runtime.start()
            self.runtime = runtime
            await until_settled(runtime.end)

        self.trio = SteppedRun(main)
        self.trio.settle()

    def post(self, story: Story) -> None:
        """In the run: submit a story in the current context, so that nesting is found as it would be."""
        assert self.runtime is not None
        run = Run(
            story.key,
            lambda run: self.body(story, run),
            exclusive=story.exclusive,
            stream=story.stream,
            on_busy=story.on_busy,
            tenant=story.tenant,
            said=lambda: self.said(story),
        )
        story.run = run
        run.call.on_settled(lambda: self.on_settled(story))
        if story.stream is not None:
            story.stream.may_wait = lambda: not self.runtime.contended(run)  # type: ignore[union-attr]  # set above
        self.runtime.submit(run)

    def on_settled(self, story: Story) -> None:
        story.settled += 1
        try:
            assert story.run is not None
            story.run.call.result()
        except (NestedRunRefused, SessionBusy):
            story.refused = True
        except Exception:  # noqa: BLE001 - cancelled or stopped
            story.cancelled = True

    async def said(self, story: Story) -> UserMessage:
        await trio.sleep(0.5)  # as long as reading a file may take
        return UserMessage(str(story.number))

    async def listen(self, run: Run) -> None:
        for message in await self.steering.take(run):
            self.stories[int(str(message.content))].heard += 1

    async def body(self, story: Story, run: Run) -> RunResult:
        self.enter(story)
        try:
            await self.listen(run)
            for nested in story.nested:
                self.post(nested)
            deadline = trio.current_time() + story.stays
            if run.events is not None:
                for _ in range(EVENTS):
                    await run.events(StreamEvent(type="text.delta", delta="x"))
            if story.waits_for_nested:
                for nested in story.nested:
                    assert nested.run is not None  # posted above
                    await until_settled(nested.run.call)
            await trio.sleep_until(deadline)
            await self.listen(run)
        finally:
            self.leave(story)
        return RunResult(content=str(story.number))

    def enter(self, story: Story) -> None:
        run = story.run
        assert run is not None
        story.started += 1
        if run.parent is None and story.on_busy != "replace":
            self.started[story.key].append(story.number)
        self.inside[story.key].append(story)
        if len(self.inside[story.key]) > 1:
            self.broken.append(f"two turns inside session {story.key}")
        roots = {self.root(other) for others in self.inside.values() for other in others}
        admission = self.runtime.admission  # type: ignore[union-attr]  # booted
        if admission is not None and len(roots) > admission.places:
            self.broken.append("more turns at once than may be")
        if any(root.exclusive for root in roots) and len(roots) > 1:
            self.broken.append("an exclusive run was not alone")
        if CURRENT_RUN.get() is not run:
            self.broken.append("a turn ran in somebody else's context")

    def leave(self, story: Story) -> None:
        self.inside[story.key].remove(story)

    @staticmethod
    def root(story: Story) -> Run:
        run = story.run
        assert run is not None
        while run.parent is not None:
            run = run.parent
        return run

    @rule(
        key=st.sampled_from("abc"),
        exclusive=st.booleans(),
        stays=st.integers(0, 3),
        streams=st.booleans(),
        nested=st.lists(
            st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 2)), max_size=2
        ),
        waits=st.booleans(),
        on_busy=st.sampled_from(["wait", "wait", "reject", "replace", "steer"]),
        tenant=st.sampled_from([None, "t"]),
    )
    def submit(
        self,
        key: str,
        exclusive: bool,
        stays: int,
        streams: bool,
        nested: list[tuple[str, bool, int]],
        waits: bool,
        on_busy: OnBusy,
        tenant: str | None,
    ) -> None:
        story = self.make(key, exclusive, stays, streams)
        story.on_busy = on_busy
        story.tenant = tenant
        story.waits_for_nested = waits
        for nested_key, nested_exclusive, nested_stays in nested:
            story.nested.append(
                self.make(nested_key, nested_exclusive, nested_stays, streams=False)
            )
        self.trio.call(contextvars.Context().run, self.post, story)

    def make(self, key: str, exclusive: bool, stays: int, streams: bool) -> Story:
        story = Story(len(self.stories), key, exclusive, stays, streams)
        self.stories.append(story)
        return story

    @rule(seconds=st.integers(1, 4))
    def time_passes(self, seconds: int) -> None:
        self.trio.jump(seconds)

    @precondition(lambda self: any(story.run for story in self.stories))
    @rule(choice=st.randoms(use_true_random=False))
    def cancel(self, choice: Any) -> None:
        story = choice.choice([story for story in self.stories if story.run is not None])
        self.trio.call(story.run.call.cancel)
        assert story.settled == 1, "a cancelled run settles at once: nothing here shields itself"

    @precondition(lambda self: any(story.reader and story.run for story in self.stories))
    @rule(choice=st.randoms(use_true_random=False), count=st.integers(1, 4))
    def read(self, choice: Any, count: int) -> None:
        story = choice.choice([story for story in self.stories if story.reader and story.run])
        self.trio.call(self.take, story, count)

    @staticmethod
    def take(story: Story, count: int) -> None:
        for _ in range(count):
            try:
                story.reader.receive_nowait()  # type: ignore[union-attr]  # the rule chose one with a reader
            except (trio.WouldBlock, trio.EndOfChannel):
                return

    @invariant()
    def nothing_is_broken(self) -> None:
        assert self.broken == []

    @invariant()
    def turns_start_in_the_order_they_were_posted(self) -> None:
        for numbers in self.started.values():
            assert numbers == sorted(numbers)

    @invariant()
    def each_message_is_heard_once_or_has_one_turn(self) -> None:
        for story in self.stories:
            assert story.heard + story.started <= 1
            if story.settled and not (story.cancelled or story.refused):
                assert story.heard + story.started == 1

    @invariant()
    def each_run_settles_at_most_once(self) -> None:
        assert all(story.settled <= 1 for story in self.stories)

    @invariant()
    def a_run_that_others_wait_for_does_not_wait_for_its_reader(self) -> None:
        for story in self.stories:
            if story.run is not None and story.stream is not None and story.stream.waiting:
                assert self.runtime.lock.waiting == 0  # type: ignore[union-attr]  # booted
                assert self.runtime.place_state().waiting == 0  # type: ignore[union-attr]  # booted
                assert not self.queued_on(story.key)
                assert story.stream.buffered <= WINDOW

    def queued_on(self, key: str) -> list[int]:
        return [
            story.number
            for story in self.stories
            if story.key == key
            and story.run
            and not story.settled
            and story not in self.inside[key]
            and story.run.host is None
        ]

    def teardown(self) -> None:
        if not hasattr(self, "trio"):
            return
        try:
            self.let_all_finish()
        finally:
            self.trio.call(self.runtime.request_close)  # type: ignore[union-attr]  # booted
            self.trio.finish()
        assert all(story.settled == 1 for story in self.stories if story.run)

    def let_all_finish(self) -> None:
        """With readers that read, everybody ends in bounded time: nothing waits for itself."""
        assert self.runtime is not None
        for _ in range(6 * len(self.stories) + 6):
            for story in self.stories:
                if story.reader is not None and story.run is not None:
                    self.trio.call(self.take, story, EVENTS)
            self.trio.jump(1)
        stuck = [story.number for story in self.stories if story.run and not story.settled]
        assert stuck == [], "these runs would wait for ever"
        assert (self.runtime.lock.holders, self.runtime.lock.waiting) == (0, 0)
        assert self.runtime.live_runs == 0
        assert (self.runtime.place_state().taken, self.runtime.place_state().waiting) == (0, 0)
        assert not any(self.steering.waits(key) for key in "abcd")
        self.trio.jump(6)
        assert self.runtime.live_sessions == 0, "an idle actor passes away"


RuntimeMachine.TestCase.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=20
)
TestRuntime = pytest.mark.timeout(900)(RuntimeMachine.TestCase)  # a failing story is made short
