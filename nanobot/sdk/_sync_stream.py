"""A run's events for callers without a loop."""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

import trio

from actors import CreditReader, CreditStream, SyncHost, cancel_soon
from nanobot.agent import RunResult, StreamEvent
from nanobot.runtime import Run, Runtime

from ._engine import Engine, refuse_if_forked, settled_result
from ._run_stream import give_back

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # only there with a default, before Python 3.13

    T_co = TypeVar("T_co", covariant=True, default=None)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["SyncEventStream"]


class SyncEventStream(Generic[T_co]):
    """The events of one run, as an iterator that blocks. Leaving early, closing or dropping it cancels the run.

    Ctrl-C while it blocks cancels the run, waits for its end, and is raised. To be used by one thread.
    """

    def __init__(
        self,
        engine: Engine,
        runtime: Runtime,
        run: Run,
        stream: CreditStream[StreamEvent],
        host: SyncHost,
    ) -> None:
        self._engine = engine
        self._runtime = runtime
        self._run = run
        self._host = host
        self._reader = CreditReader(stream, partial(give_back, runtime, stream))
        self._ended = False
        runtime.home.do(stream.connect, host.notify)
        runtime.home.do(run.call.on_settled, host.notify)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        while True:
            try:
                return self._reader.receive_nowait()
            except trio.WouldBlock:
                refuse_if_forked(self._runtime)
                self._host.wait_once(on_cancel=self._cancel, done=lambda: self._run.settled)
            except trio.EndOfChannel:
                if not self._ended:
                    self._ended = True
                    self._host.close()
                    settled_result(self._run)
                raise StopIteration from None

    def result(self) -> RunResult[T_co]:
        """Block until the run is over and return its result; events that were not read may be dropped."""
        return self._engine.result_sync(self._runtime, self._run, self._host)

    def close(self) -> None:
        """Cancel the run if it is not over, and return when nothing of it is alive. Idempotent."""
        self._engine.cancel_sync(self._runtime, self._run, self._host)
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
        if not self._run.settled:
            self._cancel()

    def _cancel(self) -> None:
        cancel_soon(self._runtime.home, self._run.call)
