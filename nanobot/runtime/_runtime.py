"""The live system: one actor per session, the lock that override runs take, and their beginning and end."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import trio

from actors import (
    Call,
    Directory,
    Home,
    Mailbox,
    MailboxClosed,
    Pace,
    ReadWriteLock,
    Stopped,
    TrioNotify,
)
from nanobot.errors import BotClosed, SessionBusy

from ._admission import Admission
from ._collector_pace import CollectorPace
from ._nesting import refusal
from ._run import Run
from ._session_actor import SessionActor
from ._statistics import LiveRun, LockState, LockWaiter, PlaceState, SessionLoad, live_run
from ._steering import Steering

__all__ = ["MAX_QUEUED_RUNS", "Runtime", "closed"]

_log = logging.getLogger("nanobot.runtime")

IDLE_S = 30.0
"""How long a session's actor outlives its last turn. An idle actor costs 4.6 kB; a whole life of one 45 µs."""


_BEGIN_AT_ONCE = 32
"""Turns that begin between two passes of the loop. Of 5,000 at once each took 0.94 ms of CPU when all began together, and 0.74
so; half as many, or twice, made no difference that could be measured."""


MAX_QUEUED_RUNS = 1000
"""How many runs wait for one session. A person says a few things before an answer comes; a program that has a thousand
answers outstanding on one conversation does not read them."""


def _nothing_to_note() -> None:
    """For runtimes that end in the same way whoever ends them."""


def _nothing_to_drop(_key: str) -> None:
    """For runtimes whose runs keep nothing between turns."""


class Runtime:
    """Everything of one bot that is alive, in one home. Made in any thread; all methods but `start` belong to the home.

    Args:
      home: The Trio run to live in.
      on_start: Run in the background from the beginning, and cancelled with the runtime; must not raise.
      on_stop: Awaited, shielded, when the last turn has ended: closes connections and processes.
      on_close: Called when the bot is closed, before `on_stop`; not when only the home ends.
      on_passing: Called with the key of a session whose actor passes away: drops what is kept for its next turn.
      idle_s: How long a session's actor outlives its last turn.
      max_concurrent_runs: How many turns go on at the same time; None is no limit. Nested ones share the place of what they
        are nested in, which may be waiting for them.
      max_queued_runs: How many runs wait for one session; nested ones are not refused.
      steering: Knows the runs that may steer the turns of others.

    `end` settles when nothing of the runtime is alive any more.
    """

    def __init__(
        self,
        home: Home,
        *,
        on_stop: Callable[[], Awaitable[None]],
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_close: Callable[[], object] = _nothing_to_note,
        on_passing: Callable[[str], object] = _nothing_to_drop,
        idle_s: float = IDLE_S,
        max_concurrent_runs: int | None = None,
        max_queued_runs: int = MAX_QUEUED_RUNS,
        steering: Steering | None = None,
    ) -> None:
        self.home = home
        self.lock = ReadWriteLock(on_contention=self._reconsider_all)
        self.admission: Admission | None = None
        if max_concurrent_runs is not None:
            self.admission = Admission(max_concurrent_runs, self._reconsider_all)
        self.end: Call[None] = Call(_nothing)
        self._on_start = on_start
        self._on_stop = on_stop
        self._on_close = on_close
        self._on_passing = on_passing
        self._idle_s = idle_s
        self._max_queued_runs = max_queued_runs
        self._steering = Steering() if steering is None else steering
        self._closing = False
        self._drained_at = math.inf
        self._live: dict[
            Run, None
        ] = {}  # insertion-ordered, so that an end comes in the order of arrival
        self._coming: dict[Run, None] = {}  # to their session's actor, in order
        self._early: list[Run] = []
        self._companions: list[Call[None]] = []  # that came before there was a nursery
        self._nursery: trio.Nursery | None = None
        self._actors: dict[str, SessionActor] = {}
        self._directory: Directory[str, Run] | None = None
        self._changed = TrioNotify()
        self._collector = CollectorPace()

    @property
    def usable(self) -> bool:
        """Whether runs can be posted; false after its end and in a forked child."""
        return not self._closing and not self.forked

    @property
    def forked(self) -> bool:
        """Whether this is a child process's copy of a runtime that lives in the parent."""
        return self.home.forked

    @property
    def live_runs(self) -> int:
        """Runs that were posted and have not settled."""
        return len(self._live)

    @property
    def live_sessions(self) -> int:
        """Sessions whose actor is alive, idle ones included."""
        return len(self._actors)

    def is_live(self, run: Run) -> bool:
        """Whether a run was posted here and has not settled. From any thread."""
        return run in self._live

    def sessions(self) -> tuple[SessionLoad, ...]:
        """The sessions whose actor is alive. From any thread, as `runs` and `lock_state`: another one than the home's may
        get a `RuntimeError` if it looks while something changes, and looks again.
        """
        return tuple(
            SessionLoad(key, len(self._mailbox(key) or ()), _busy(actor.occupant))
            for key, actor in tuple(self._actors.items())
        )

    def runs(self) -> tuple[LiveRun, ...]:
        """The runs that were posted and have not settled."""
        now = time.monotonic()
        live = [run for run in tuple(self._live) if not run.settled]
        places = self._places({run.session_key for run in live if not run.running})
        return tuple(live_run(run, places.get(run, 0), now) for run in live)

    def position(self, run: Run) -> int | None:
        """How many runs of its session go before a run; None once it has ended. From any thread, as `runs`."""
        coming = tuple(self._coming)  # first: what arrives meanwhile is then seen twice, not missed
        places = self._places({run.session_key})
        if run.settled:
            return None
        if run.running:
            return 0
        if run in places or run not in coming:
            return places.get(run, 0)
        taken = self._head(run.session_key)
        if run.on_busy == "replace" or run.outer is not None:  # which go before all that wait
            return int(taken is not None)
        return (
            int(taken is not None)
            + len(places)
            + sum(
                other.session_key == run.session_key
                and not (other.settled or other in places or other is taken)
                for other in coming[: coming.index(run)]
            )
        )

    def place_state(self) -> PlaceState:
        """How many turns go on, of how many that may, and how many wait for that."""
        if self.admission is None:
            return PlaceState()
        return PlaceState(self.admission.places, self.admission.taken, self.admission.waiting)

    def lock_state(self) -> LockState:
        """Who holds the lock, and who waits for it."""
        now = time.monotonic()
        holders: list[Run] = []
        waiters: list[tuple[float, Run]] = []
        for run in tuple(self._live):
            if run.settled:
                continue  # whoever waited for it may know already; what it held is let go in the same step
            hold, since = run.hold, run.waiting_since
            if hold is not None and hold.granted and not hold.released and not _inherited(run):
                holders.append(run)
            elif since is not None:
                waiters.append((since, run))
        waiters.sort(key=lambda waiter: waiter[0])
        return LockState(
            any(run.exclusive for run in holders),
            tuple(run.session_key for run in holders),
            tuple(
                LockWaiter(run.session_key, run.exclusive, max(0.0, now - since))
                for since, run in waiters
            ),
        )

    def start(self) -> None:
        """Begin to live in the home. Runs may be submitted right after."""
        self.home.at_end(self, self._abandon)
        self.home.start(self._serve, name="nanobot runtime")

    def expect(self, run: Run) -> None:
        """Count a run in that is about to be submitted. From any thread, as `expect_no_more`."""
        self._coming[run] = None
        self._note_crowd()

    def expect_no_more(self, run: Run) -> None:
        """The reverse of `expect`; no effect on a run that was submitted."""
        # In one step, for two threads may say so; what was there has None.
        if self._coming.pop(run, False) is None:
            self._note_crowd()

    def submit(self, run: Run) -> None:
        """Post a run to its session's actor. It settles in every case; with an error if it may not run."""
        if self._closing:
            run.call.fail(closed())
        elif self._directory is None:
            self._early.append(run)
            return
        else:
            self._post(run, self._directory)
        self.expect_no_more(run)

    def accompany(self, call: Call[None]) -> None:
        """Run something beside the sessions, for as long as the runtime lives. It settles with the runtime at the latest."""
        if self._closing:
            call.fail(closed())
        elif self._nursery is None:
            self._companions.append(call)
        else:
            self._nursery.start_soon(call.run)

    def request_close(self, drain_s: float = 0.0) -> None:
        """Take no more runs; give the live ones `drain_s` seconds, then cancel them. `end` tells when that is done.

        A second request may shorten the time that the first one gave, never lengthen it.
        """
        self._closing = True
        self._on_close()
        self._drained_at = min(self._drained_at, trio.current_time() + drain_s)
        self._changed.notify()

    def contended(self, run: Run) -> bool:
        """Whether somebody waits for what `run` holds, or for its end: then it must not wait for its stream's reader."""
        if self.lock.contended or run.waiters:
            return True
        if self.admission is not None and self.admission.waiting:
            return True
        holder: Run | None = run
        while holder is not None:
            mailbox = self._mailbox(holder.session_key)
            if mailbox is not None and mailbox:
                return True
            holder = holder.parent
        return False

    def await_end(self, run: Run) -> None:
        """Note that somebody waits for the run's end, whatever becomes of its events."""
        run.waiters += 1
        self._reconsider(run)

    def stop_awaiting(self, run: Run) -> None:
        """The reverse of `await_end`."""
        run.waiters -= 1

    def cancel_session(self, session_key: str) -> None:
        """Cancel every run of one session, queued or running."""
        for run in tuple(self._live):
            if run.session_key == session_key:
                run.call.cancel()

    async def _serve(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                self._open(nursery)
                try:
                    await self._serve_until_closed()
                finally:
                    self._closing = (
                        True  # whoever hears of the end and asks again must not reach this runtime
                    )
                nursery.cancel_scope.cancel()
        finally:
            self._abandon()
            try:
                with trio.CancelScope(shield=True):
                    await self._on_stop()
            except Exception:  # noqa: BLE001 - a store or a provider may be a stranger's
                # Before whoever closes the bot goes on, and perhaps ends the program.
                _log.exception("closing the bot ended with an error")
            finally:  # for this they wait
                self.home.forget(self)
                self.end.settle(None)

    def _open(self, nursery: trio.Nursery) -> None:
        """Begin with what was asked for before the home came to `_serve`, whose frame lives too long to hold any of it."""
        self._directory = Directory(
            nursery,
            self._session,
            on_undelivered=_undelivered,
            idle_s=self._idle_s,
            pace=Pace(_BEGIN_AT_ONCE),
        )
        self._nursery = nursery
        if self._on_start is not None:
            nursery.start_soon(self._on_start)
        early, self._early = self._early, []
        for run in early:
            if not run.settled:  # else it was cancelled while it waited
                self._post(run, self._directory)
            self.expect_no_more(run)
        companions, self._companions = self._companions, []
        for call in companions:
            nursery.start_soon(call.run)

    async def _serve_until_closed(self) -> None:
        while not self._closing:
            await self._changed.notified()
        while self._live and trio.current_time() < self._drained_at:
            with trio.move_on_at(self._drained_at):
                await self._changed.notified()
        for run in tuple(self._live):
            run.call.cancel()
        while self._live:
            await self._changed.notified()

    def _post(self, run: Run, directory: Directory[str, Run]) -> None:
        own = (outer for outer in run.enclosing() if outer.running and outer in self._live)
        parent = run.parent = next(own, None)
        nested = parent is not None
        if run.outer is not None and (refused := refusal(run, self._blockers)) is not None:
            run.call.fail(refused)
            return
        if not nested and (busy := self._no_room(run, directory)) is not None:
            run.call.fail(busy)
            return
        mailbox = directory.mailbox(run.session_key)
        replaces = run.on_busy == "replace" and mailbox is not None
        if replaces:
            assert mailbox is not None
            self._make_way(run.session_key, mailbox)
        self._live[run] = None
        run.call.on_settled(partial(Runtime._settled, self, run))
        if parent is not None and parent.hold is not None:
            parent.children[run] = None
            run.hold = hold = parent.hold.share()
            run.call.on_settled(hold.release)
            if parent.place is not None:
                run.place = place = parent.place.share()
                run.call.on_settled(place.release)
        directory.post_nowait(run.session_key, run, urgent=nested, first=replaces)
        if run.on_busy == "steer":
            mailbox = directory.mailbox(run.session_key)
            assert mailbox is not None  # it was made by the run at the latest
            self._steering.add(run, mailbox)
        actor = self._actors.get(run.session_key)
        if actor is not None and actor.occupant is not None:
            self._reconsider(actor.occupant)

    async def _session(self, key: str, mailbox: Mailbox[Run]) -> None:
        actor = self._actors[key] = SessionActor(mailbox, self.lock, self.admission)
        try:
            await actor.serve()
        finally:
            del self._actors[key]
            self._note_crowd()
            self._on_passing(key)

    def _abandon(self) -> None:
        """Nothing runs any more, for whatever reason: nobody may wait for ever."""
        self._closing = True
        calls: list[Call[Any]] = [run.call for run in (*self._live, *self._early)]
        for call in (*calls, *self._companions):
            call.fail(Stopped("the event loop in which this bot lived has ended"))

    def _settled(self, run: Run) -> None:
        if run.counter is not None:
            run.counter.count(run)
        del self._live[run]
        self._note_crowd()
        if run.parent is not None:
            run.parent.children.pop(run, None)
            run.parent = None  # a chain of runs, each begun in the one before, would keep all
        mailbox = self._mailbox(run.session_key)
        if mailbox is not None:
            mailbox.withdraw(run)  # if it was cancelled while it waited
        if self._closing:
            self._changed.notify()

    def _note_crowd(self) -> None:
        self._collector.follow(self._crowd)

    def _crowd(self) -> int:
        """How many runs there are, or what is as large: an idle session has an eighth of a run's objects, 31."""
        return len(self._live) + len(self._coming) + (len(self._actors) >> 3)

    def _no_room(self, run: Run, directory: Directory[str, Run]) -> SessionBusy | None:
        """Why a run cannot be taken in, or None."""
        key = run.session_key
        mailbox = directory.mailbox(key)
        if mailbox is None:
            return None
        queued = len(mailbox)
        if run.on_busy == "reject" and (queued or self._head(key) is not None):
            return SessionBusy(
                f"session {key!r:.200} is busy, and on_busy is 'reject'. Try again later, or say what to do with the run that"
                " is there: wait for it, replace it, or steer it.",
                session_key=key,
                queued=queued,
            )
        if queued >= self._max_queued_runs and run.on_busy != "replace":
            return SessionBusy(
                f"{queued} runs wait for session {key!r:.200} already, as many as agents.defaults.maxQueuedRuns allows",
                session_key=key,
                queued=queued,
            )
        return None

    def _make_way(self, key: str, mailbox: Mailbox[Run]) -> None:
        """Cancel the turn that is running on a session, or is the next to run; and who was about to replace it."""
        head, following = self._head(key), mailbox.next_ordinary
        if following is not None and (head is None or following.on_busy == "replace"):
            _replace(following)
        if head is not None:
            _replace(head)

    def _head(self, key: str) -> Run | None:
        """The run that is running on a session, or waits for a place or the lock in order to."""
        actor = self._actors.get(key)
        if actor is None:
            return None
        for run in (actor.occupant, actor.head):
            if run is not None and not run.settled:
                return run
        return None

    def _places(self, keys: Iterable[str]) -> dict[Run, int]:
        """How many runs go before each that waits in the mailboxes of some sessions."""
        places: dict[Run, int] = {}
        for key in keys:
            mailbox = self._mailbox(key)
            if mailbox is not None:
                before = 0 if self._head(key) is None else 1
                places.update((run, at) for at, run in enumerate(mailbox.waiting, before))
        return places

    def _blockers(self, run: Run) -> Iterable[Run]:
        if run.running:
            return tuple(run.children)
        actor = self._actors.get(run.session_key)
        ahead = () if actor is None or actor.occupant is None else (actor.occupant,)
        mailbox = self._mailbox(run.session_key)
        return ahead if mailbox is None else (*ahead, *mailbox.urgent)

    def _mailbox(self, session_key: str) -> Mailbox[Run] | None:
        return None if self._directory is None else self._directory.mailbox(session_key)

    def _reconsider(self, run: Run) -> None:
        if run.events is not None:
            run.events.stream.reconsider()
        for child in run.children:
            self._reconsider(child)

    def _reconsider_all(self) -> None:
        for run in self._live:
            if run.events is not None:
                run.events.stream.reconsider()


def closed() -> BotClosed:
    """What a caller is told who comes too late."""
    return BotClosed("this bot is closed; make a new one with Nanobot.from_config()")


def _replace(run: Run) -> None:
    if run.on_busy is not None:  # not an ingest or a compaction
        run.replaced = True
        run.call.cancel()


def _undelivered(run: Run, reason: BaseException) -> None:
    run.call.fail(Stopped("the bot was closed") if isinstance(reason, MailboxClosed) else reason)


async def _nothing() -> None:
    """The body of a call that is settled by hand."""


def _busy(occupant: Run | None) -> bool:
    return occupant is not None and not occupant.settled


def _inherited(run: Run) -> bool:
    """Whether a run has the lock through an outer run that still has it too."""
    return run.parent is not None and not run.parent.settled
