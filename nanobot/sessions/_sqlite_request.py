"""A piece of work for the writer, and whoever waits for its answer: a Trio task, or a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

import outcome
import trio

if TYPE_CHECKING:
    from ._sqlite_transaction import Transaction

__all__ = ["NotYet", "Request", "wake"]

T = TypeVar("T")


class NotYet(Exception):
    """Raised by work that cannot be done now and will be tried again. What it has written so far is kept."""


class Request(Generic[T]):
    """Work that the writer does once, inside a transaction that it may share with other requests.

    Either the writer *takes* a request, or whoever asked *withdraws* it: exactly one of them succeeds, from whatever threads.
    So a request that was withdrawn has no effect, and one that was taken is answered.

    The work runs in the writer's thread. It may be run again after its transaction was rolled back, so it changes nothing but
    the database. It raises before its first write or not at all: `sqlite3.Error` apart, which rolls back the transaction, and
    `NotYet`.

    Attributes:
      work: What is done.
      after: Called with the answer once it is committed, in the writer's thread, before whoever asked hears of it.
      durable: Whether the answer has to wait for the disk, in a store that promises that.
      forced: Whether it has to wait for the disk in any store.
    """

    __slots__ = (
        "_abandoned",
        "_claim",
        "_done",
        "_outcome",
        "_raise_cancel",
        "_task",
        "_token",
        "after",
        "durable",
        "forced",
        "work",
    )

    def __init__(
        self,
        work: Callable[[Transaction], T],
        *,
        durable: bool = True,
        forced: bool = False,
        after: Callable[[T], None] | None = None,
    ) -> None:
        self.work = work
        self.after = after
        self.durable = durable
        self.forced = forced
        self._claim = [None]  # whoever pops it has it; popping is atomic
        self._abandoned = False
        self._outcome: outcome.Outcome[T] | None = None
        self._raise_cancel: Callable[[], object] | None = None
        self._task: trio.lowlevel.Task | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._done: threading.Lock | None = None

    # --- for whoever asks

    @trio.lowlevel.enable_ki_protection  # Ctrl-C between posting and waiting would leave the answer nowhere to go
    async def answer(self, post: Callable[[Request[T]], None]) -> T:
        """Post the request and wait in Trio. A cancelled wait withdraws it, or, if it is too late for that, goes on."""
        self._task = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()
        post(self)

        def abort(raise_cancel: Callable[[], object]) -> trio.lowlevel.Abort:
            self._raise_cancel = raise_cancel
            return trio.lowlevel.Abort.SUCCEEDED if self.withdraw() else trio.lowlevel.Abort.FAILED

        answered: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return answered

    def answer_sync(
        self, post: Callable[[Request[T]], None], *, timeout_s: float | None = None
    ) -> T:
        """Post the request and block. Ctrl-C withdraws it, or is raised when it is done.

        Raises:
          TimeoutError: It took longer than `timeout_s`; it may still be carried out.
        """
        self._done = threading.Lock()
        self._done.acquire()
        post(self)
        try:
            settled = self._done.acquire(timeout=-1 if timeout_s is None else timeout_s)
        except BaseException:
            if not self.withdraw():
                self._done.acquire()
            raise
        if self._outcome is None or not settled:
            raise TimeoutError
        return self._outcome.unwrap()

    def withdraw(self) -> bool:
        """See that the request has no effect; returns False if it is too late."""
        if self.take():  # before the writer
            return True
        self._abandoned = True  # and if it is put back just now, one of the two sees it
        return self.take()

    # --- for the writer

    @property
    def waiting(self) -> bool:
        """Whether it was neither taken nor withdrawn."""
        return bool(self._claim)

    def take(self) -> bool:
        """Begin with it; returns False if it was withdrawn."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True

    def put_back(self) -> bool:
        """Have it wait again after all; returns False if it was abandoned meanwhile, and is settled by that."""
        self._claim.append(None)
        if not self._abandoned or not self.take():
            return True
        assert self._raise_cancel is not None  # only a Trio task abandons what it has posted
        self._outcome = outcome.capture(self._cancelled)
        return False

    def settle(self, value: T) -> None:
        """Note the answer; `wake` delivers it."""
        self._outcome = outcome.Value(value)

    def fail(self, error: BaseException) -> None:
        """Note that there is an error instead of an answer."""
        self._outcome = outcome.Error(error)

    def committed(self) -> None:
        """Note that the answer stands."""
        if self.after is not None and isinstance(self._outcome, outcome.Value):
            self.after(self._outcome.value)

    @property
    def error(self) -> BaseException | None:
        """What it failed with, if it did."""
        return self._outcome.error if isinstance(self._outcome, outcome.Error) else None

    def _cancelled(self) -> T:
        assert self._raise_cancel is not None
        self._raise_cancel()
        raise AssertionError("it did not raise")

    def _wake_thread(self) -> None:
        if self._done is not None:
            self._done.release()

    def _wake_task(self) -> None:
        assert self._task is not None
        assert self._outcome is not None
        trio.lowlevel.reschedule(self._task, self._outcome)


def wake(settled: Iterable[Request[object]]) -> None:
    """Deliver the answers, with one message to each Trio run, whatever the number of tasks."""
    runs: dict[trio.lowlevel.TrioToken, list[Request[object]]] = {}
    for request in settled:
        if request._token is None:
            request._wake_thread()
        else:
            runs.setdefault(request._token, []).append(request)
    for token, requests in runs.items():
        try:
            token.run_sync_soon(_wake_tasks, requests)
        except (trio.RunFinishedError, OSError):
            pass  # the run has ended, or crashed, which closes its wake-up socket: nobody waits there


def _wake_tasks(requests: list[Request[object]]) -> None:
    for request in requests:
        request._wake_task()
