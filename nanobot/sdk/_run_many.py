"""What `bot.run_many(...)` and `bot.run_many_sync(...)` give: the outcomes of many runs, as they come."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from actors import Notify, SyncHost, current_host

from ._engine import Engine
from ._jobs import JobOutcome, Jobs

__all__ = ["RunMany", "SyncRunMany"]


class RunMany:
    """The outcomes of many runs, as an async iterator: each as soon as it is there, in the order in which they end.

    The first are started when the first outcome is asked for, or with `async with`, and others as outcomes are taken. A loop body
    that is slow holds up what has not been started, and nothing else. Leaving early cancels what runs: by `break`, by
    `aclose()`, or by dropping the last reference; `async with` and `aclose()` return when nothing of it is alive.
    """

    def __init__(self, engine: Engine, jobs: Jobs) -> None:
        self._engine = engine
        self._jobs = jobs
        self._notify: Notify | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobOutcome:
        self._start()
        assert self._notify is not None
        while True:
            outcome = self._jobs.take()
            if outcome is not None:
                return outcome
            if self._jobs.over:
                raise StopAsyncIteration
            self._jobs.refuse_if_forked()
            await self._notify.notified()

    async def results(self) -> list[JobOutcome]:
        """Run all, and return their outcomes in the order of the jobs.

        Cancellation: all runs are cancelled with their caller, who gets out when nothing of them is alive.
        """
        outcomes: list[JobOutcome] = []
        try:
            async for outcome in self:
                outcomes.append(outcome)
        except BaseException:
            await self.aclose()  # noqa: ASYNC102 - sees itself through
            raise
        return sorted(outcomes, key=lambda outcome: outcome.index)

    async def aclose(self) -> None:
        """Start no more, cancel what runs, and return when nothing of it is alive. Idempotent."""
        cancelled: BaseException | None = None
        for posted in self._jobs.cancel_soon():
            try:
                await self._engine.cancel(posted.runtime, posted.run)
            except BaseException as error:  # noqa: ASYNC103, BLE001 - raised below: the others have to end too
                cancelled = error
        self._jobs.forget()
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._jobs.cancel_soon()

    def _start(self) -> None:
        if self._notify is None:
            self._notify = current_host(self._engine.open().home).make_notify()
            self._jobs.notify = self._notify.notify
        self._jobs.start()


class SyncRunMany:
    """`RunMany` for programs without an event loop: an iterator that blocks. To be used by one thread.

    Async hooks and tools of all runs are called in that thread while it waits. Ctrl-C cancels all runs, waits for their end,
    and is raised.
    """

    def __init__(self, engine: Engine, jobs: Jobs, host: SyncHost) -> None:
        self._engine = engine
        self._jobs = jobs
        self._host = host
        jobs.notify = host.notify

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> JobOutcome:
        self._jobs.start()
        while True:
            outcome = self._jobs.take()
            if outcome is not None:
                return outcome
            if self._jobs.over:
                self._host.close()
                raise StopIteration
            self._jobs.refuse_if_forked()
            self._host.wait_once(on_cancel=self._cancel, done=self._idle)

    def results(self) -> list[JobOutcome]:
        """Run all, and return their outcomes in the order of the jobs."""
        with self:
            return sorted(self, key=lambda outcome: outcome.index)

    def close(self) -> None:
        """Start no more, cancel what runs, and return when nothing of it is alive. Idempotent."""
        for posted in self._jobs.cancel_soon():
            self._engine.cancel_sync(posted.runtime, posted.run, self._host)
        self._jobs.forget()
        self._host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._jobs.cancel_soon()

    def _cancel(self) -> None:
        self._jobs.cancel_soon()

    def _idle(self) -> bool:
        return not self._jobs.running
