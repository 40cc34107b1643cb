"""The asyncio loop of a thread that has none, for the functions that an engine has it call."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from ._host import Finished, FunctionCancelled
from ._host_sync import Cell

__all__ = ["OwnLoop"]


class OwnLoop:
    """Runs one function after the other; what one of them opens on the loop, the next one can use."""

    def __init__(self) -> None:
        # With a factory the runner leaves alone what `asyncio.get_event_loop()` gives in this thread.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    def run(
        self,
        cell: Cell,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        context: contextvars.Context,
        finished: Finished,
    ) -> None:
        """Await a function and tell `finished` what came of it. Ctrl-C is raised, too."""

        async def main() -> Any:
            if not cell.enter(asyncio.get_running_loop(), asyncio.current_task()):
                raise asyncio.CancelledError
            return await function(*args)

        coroutine = main()
        try:
            value = self._runner.run(coroutine, context=context)
        except KeyboardInterrupt:
            finished(None, FunctionCancelled())
            raise
        except asyncio.CancelledError:  # noqa: ASYNC103 - no cancellation of ours: this thread has no loop
            finished(None, FunctionCancelled())
        except BaseException as error:  # noqa: BLE001, ASYNC103 - it is raised again in the engine
            coroutine.close()  # a loop that runs already refuses another one inside it
            finished(None, error)
        else:
            finished(value, None)

    def close(self) -> None:
        """Close the loop, if it was ever needed."""
        self._runner.close()
