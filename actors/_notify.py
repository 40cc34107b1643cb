"""Waking one waiter inside a Trio run."""

from __future__ import annotations

import trio

__all__ = ["TrioNotify"]


class TrioNotify:
    """A wake-up for one waiting task: `notify()` is remembered until the next `notified()`.

    Several notifications before the waiter looks are one. Both sides live in the same Trio run. It costs a third of a
    `trio.Event`, which has to be made anew for each wait.
    """

    __slots__ = ("_pending", "_task")

    def __init__(self) -> None:
        self._pending = False
        self._task: trio.lowlevel.Task | None = None

    def notify(self) -> None:
        """Wake the waiter, or let the next `notified()` return at once. Never blocks, never raises."""
        if self._task is None:
            self._pending = True
        else:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def notified(self) -> None:
        """Wait for a notification. Always a checkpoint; a cancelled wait loses none."""
        if self._pending:
            await trio.lowlevel.checkpoint()
            self._pending = False
            return
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting here already")

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
