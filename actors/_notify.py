"""Waking one waiter inside a Trio run."""

from __future__ import annotations

import trio

from ._run_ended import run_ended

__all__ = ["TrioNotify"]


class TrioNotify:
    """A wake-up for one waiting task: `notify()` is remembered until the next `notified()`.

    Several notifications before the waiter looks are one. Both sides live in the same Trio run. It costs a third of a
    `trio.Event`, which has to be made anew for each wait.
    """

    __slots__ = ("_pending", "_task", "_token")

    def __init__(self) -> None:
        self._pending = False
        self._task: trio.lowlevel.Task | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    def notify(self) -> None:
        """Wake the waiter, or let the next `notified()` return at once. Never blocks.

        Does nothing for a waiter whose run has crashed: whoever is told of the crash may still have to tell others.

        Raises:
          RuntimeError: The waiter's run is alive, and this is not it.
        """
        if self._task is None:
            self._pending = True
        else:
            task, self._task = self._task, None
            try:
                trio.lowlevel.reschedule(task)
            except (AssertionError, RuntimeError):
                assert self._token is not None  # there is a waiter
                if not run_ended(self._token):
                    self._task = task  # it still waits
                    raise

    @trio.lowlevel.enable_ki_protection  # Ctrl-C between noting the task and parking it would wake it twice
    async def notified(self) -> None:
        """Wait for a notification. Always a checkpoint; a cancelled wait loses none.

        Raises:
          trio.BusyResourceError: Another task is waiting here.
        """
        if self._pending:
            await trio.lowlevel.checkpoint()
            self._pending = False
            return
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting here already")

        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
