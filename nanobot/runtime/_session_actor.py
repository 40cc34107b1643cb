"""The actor of one session: it runs that session's turns, one at a time, in the order they were posted."""

from __future__ import annotations

import time

import trio

from actors import Hold, Mailbox, ReadWriteLock

from ._admission import Admission, Place
from ._run import Run

__all__ = ["SessionActor"]


class SessionActor:
    """Takes runs from the mailbox; for each waits for a place and for the lock, then runs it and waits for its end.

    The order is always the same, head of the mailbox first, then the place, then the lock, so that two sessions cannot wait
    for each other. Only turns take places; where `admission` is None there is room for all.
    Nested runs come through the mailbox's urgent lane with a hold of their root's, and are run even while the head waits:
    what holds the lock, or the place, may be waiting for them.

    `head` is the run that was taken out of the mailbox and has not ended, `occupant` the one that is running.
    """

    def __init__(
        self, mailbox: Mailbox[Run], lock: ReadWriteLock, admission: Admission | None = None
    ) -> None:
        self._mailbox = mailbox
        self._lock = lock
        self._admission = admission
        self.head: Run | None = None
        self.occupant: Run | None = None

    async def serve(self) -> None:
        """Run turns until the mailbox was idle for its time. Cancellation ends the turn that is running first."""
        async with trio.open_nursery() as turns:
            async for run in self._mailbox:
                if run.settled:
                    continue  # it was cancelled while it waited
                self.head = run
                if run.hold is not None:
                    await self._turn(run, turns)
                elif self._admission is None or run.on_busy is None:
                    await self._admit(run, turns)
                else:
                    await self._admit_in_turn(self._admission, run, turns)
                self.head = None

    async def _admit_in_turn(self, admission: Admission, run: Run, turns: trio.Nursery) -> None:
        tenant = (run.session_key,) if run.tenant is None else run.tenant
        place = run.place = admission.request(tenant, self._mailbox.notify)
        try:
            if not place.granted:
                run.call.on_settled(self._mailbox.notify)
                run.awaits_place = True
                await self._wait_for(place, run, turns)
                run.awaits_place = False
            if not run.settled:
                await self._admit(run, turns)
        finally:
            place.release()

    async def _admit(self, run: Run, turns: trio.Nursery) -> None:
        hold = self._lock.request(exclusive=run.exclusive, on_grant=self._mailbox.notify)
        try:
            if not hold.granted:
                run.call.on_settled(self._mailbox.notify)
                run.waiting_since = run.asked_for_lock_at = time.monotonic()
                await self._wait_for(hold, run, turns)
                run.waiting_since = None
            if not run.settled:
                run.hold = hold
                await self._turn(run, turns)
        finally:
            hold.release()

    async def _wait_for(self, entry: Hold | Place, run: Run, turns: trio.Nursery) -> None:
        while not (entry.granted or run.settled):
            try:
                nested = self._mailbox.get_urgent_nowait()
            except trio.WouldBlock:
                await self._mailbox.notified()
            else:
                if not nested.settled:
                    await self._turn(nested, turns)

    async def _turn(self, run: Run, turns: trio.Nursery) -> None:
        self.occupant = run
        try:
            run.call.context.run(turns.start_soon, run.call.run)
            run.call.on_settled(self._mailbox.notify)
            try:
                while not run.settled:
                    await self._mailbox.notified()
            except trio.Cancelled:
                # The turn is being cancelled too. Its lock and its place are given up when it has ended, not before.
                with trio.CancelScope(shield=True):
                    while not run.settled:
                        await self._mailbox.notified()
                raise
        finally:
            self.occupant = None
