"""A run that was started and can be followed: its events, its result, its end."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

import trio

from actors import CreditReader, CreditStream, HomeGone, Notify, cancel_soon, current_host
from nanobot.agent import RunResult, StreamEvent
from nanobot.runtime import Run, Runtime

from ._engine import Engine, refuse_if_forked, settled_result
from ._statistics import steady

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only there with a default, before Python 3.13

    T_co = TypeVar("T_co", covariant=True, default=None)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["EventReader", "RunStream"]


class EventReader:
    """The events of one run, for one reader. An async iterator that ends after `run.completed` or `run.failed`.

    If the run raised instead of returning a result, because of a bug or a caller's mistake, so does the iteration, after
    `run.failed`. Leaving early cancels the run: by `break`, by `aclose()`, or by dropping the last reference. While events are
    there, reading is a checkpoint once for a batch of them: the other tasks of the loop run however fast they come.
    """

    def __init__(
        self, engine: Engine, runtime: Runtime, run: Run, stream: CreditStream[StreamEvent]
    ) -> None:
        self._engine = engine
        self._runtime = runtime
        self._run = run
        self._stream = stream
        # Not a bound method: that would be a cycle, and dropping the last reference would no longer end the run at once.
        self._reader = CreditReader(stream, partial(give_back, runtime, stream))
        self._notify: Notify | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        if self._reader.at_batch:
            await current_host(self._runtime.home).checkpoint()
        while True:
            try:
                return self._reader.receive_nowait()
            except trio.WouldBlock:
                await self._readable()
            except trio.EndOfChannel:
                if not self._ended:
                    self._ended = True
                    settled_result(self._run)
                raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Cancel the run if it is not over, and return when nothing of it is alive. Idempotent."""
        await self._engine.cancel(self._runtime, self._run)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._run.settled:
            cancel_soon(self._runtime.home, self._run.call)

    async def _readable(self) -> None:
        refuse_if_forked(self._runtime)
        if self._notify is None:
            self._notify = current_host(self._runtime.home).make_notify()
            try:
                self._runtime.home.do(self._stream.connect, self._notify.notify)
            except HomeGone:
                self._stream.close()  # nothing is left that could send
                return
        await self._notify.notified()


def give_back(runtime: Runtime, stream: CreditStream[StreamEvent], count: int) -> None:
    """Return a reader's credit to the producer, wherever the two are."""
    try:
        runtime.home.do(stream.give_credit, count)
    except HomeGone:
        pass  # nobody waits for credit any more


class RunStream(Generic[T_co]):
    """A handle on a started run.

    Follow it with `stream_events()`, wait for it with `wait()` or `text()`, end it with `cancel()` or `aclose()`; all of
    them from any task, `wait` and `text` from many. A handle that is dropped while the run is going on cancels the run.
    Used with `async with` it is closed at the end of the block.
    """

    def __init__(
        self, engine: Engine, runtime: Runtime, run: Run, stream: CreditStream[StreamEvent]
    ) -> None:
        self._engine = engine
        self._runtime = runtime
        self._run = run
        self._stream = stream
        self._streaming = False

    @property
    def done(self) -> bool:
        """Whether the run is over, one way or another."""
        return self._run.settled

    @property
    def position(self) -> int | None:
        """How many runs of its session go before this one: 0 from the moment when it is the next, None when it is over.

        A plain look, from any thread.
        """
        return steady(lambda: self._runtime.position(self._run))

    def stream_events(self) -> EventReader:
        """The events, once, for one reader. Leaving the iteration early cancels the run.

        Raises:
          RuntimeError: They were asked for before.
        """
        if self._streaming:
            raise RuntimeError(
                "stream_events() can be used once per run; keep the events, or start another run"
            )
        self._streaming = True
        return EventReader(self._engine, self._runtime, self._run, self._stream)

    async def wait(self) -> RunResult[T_co]:
        """Wait for the result, whether or not the events are read. A cancelled run has a result too.

        While somebody waits, the run never waits for its reader: events that are not read are kept up to the stream's limit,
        and past that dropped if nobody has begun to read. Cancelling the wait leaves the run alone.

        Raises:
          NestedRunRefused: Called by a tool or a hook of the run itself.
        """
        return await self._engine.result(self._runtime, self._run)

    async def text(self) -> str:
        """Wait for the result and return its `content`."""
        return (await self.wait()).content

    async def cancel(self) -> None:
        """End the run now and return when nothing of it is alive: no task, socket, process or file. Idempotent.

        A tool or a hook of the run itself cannot see its end: there this returns at once, and the end comes at the next
        `await`.
        """
        await self._engine.cancel(self._runtime, self._run)

    async def aclose(self) -> None:
        """The same as `cancel()`, under the name that `async with` and `contextlib.aclosing` use."""
        await self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._streaming and not self._run.settled:
            cancel_soon(self._runtime.home, self._run.call)
