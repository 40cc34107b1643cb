"""The actor of one session: it runs that session's turns, one at a time, in the order they were posted."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

from actors import Hold, Mailbox, ReadWriteLock

from ._admission import Admission, Place
from ._run import Run

__all__ = ["SessionActor"]


class SessionActor:
    """Takes runs from the mailbox; for each waits for a place and for the lock, then runs it.

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
        self._waits = False
        self.head: Run | None = None
        self.occupant: Run | None = None

    async def serve(self) -> None:
        """Run turns until the mailbox was idle for its time. Cancellation ends the turn that is running first."""
        # The one that the actor was made for has waited for its task to begin, and need not let others go first again.
        run = self._mailbox.get_nowait() if self._mailbox else await anext(self._mailbox, None)
        while run is not None:
            if not run.settled:  # else it was cancelled while it waited
                self.head = run
                await self._seen_to(run)
                self.head = None
            run = None  # with it goes all that its turn had: an idle session should be small
            run = await anext(self._mailbox, None)

    def _seen_to(self, run: Run) -> Coroutine[Any, Any, None]:
        if run.hold is not None:
            return self._turn(run)
        if self._admission is None or run.on_busy is None:
            return self._admit(run)
        return self._admit_in_turn(self._admission, run)

    async def _admit_in_turn(self, admission: Admission, run: Run) -> None:
        tenant = (run.session_key,) if run.tenant is None else run.tenant
        place = run.place = admission.request(tenant, self._granted)
        try:
            if not place.granted:
                run.call.on_settled(self._mailbox.notify)
                run.awaits_place = True
                await self._wait_for(place, run)
                run.awaits_place = False
            if not run.settled:
                await self._admit(run)
        finally:
            place.release()

    async def _admit(self, run: Run) -> None:
        hold = self._lock.request(exclusive=run.exclusive, on_grant=self._granted)
        try:
            if not hold.granted:
                run.call.on_settled(self._mailbox.notify)
                run.waiting_since = run.asked_for_lock_at = time.monotonic()
                await self._wait_for(hold, run)
                run.waiting_since = None
            if not run.settled:
                run.hold = hold
                await self._turn(run)
        finally:
            hold.release()

    async def _wait_for(self, entry: Hold | Place, run: Run) -> None:
        self._waits = True
        while not (entry.granted or run.settled):
            nested = self._mailbox.next_urgent()
            if nested is None:
                await self._mailbox.notified()
            elif not nested.settled:
                await self._turn(nested)
        self._waits = False

    def _granted(self) -> None:
        if self._waits:  # not if it was there at once: the mailbox would wake for nothing
            self._mailbox.notify()

    async def _turn(self, run: Run) -> None:
        self.occupant = run
        try:
            await run.call.run()
        finally:
            self.occupant = None
