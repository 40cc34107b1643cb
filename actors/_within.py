"""Awaiting a coroutine in another context than the awaiting task's."""

from __future__ import annotations

import contextvars
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

__all__ = ["within"]

T = TypeVar("T")


@types.coroutine
def within(
    context: contextvars.Context, function: Callable[[], Coroutine[Any, Any, T]]
) -> Generator[Any, Any, T]:
    """Call an async function and await it, each step of it in `context`, as PEP 567 has event loops do it for tasks.

    Costs a tenth of a task. Tasks that the function starts begin with copies of `context`, and cancelling reaches it through
    whoever awaits this.

    Raises:
      RuntimeError: `context` is in use, be it that this task was started in it; or the function raised `GeneratorExit` of
        its own accord. Otherwise what the function raises.
    """
    coroutine: Coroutine[Any, Any, T] = context.run(function)
    del function
    sent: Any = None
    raised: BaseException | None = None
    try:
        while True:
            try:
                if raised is None:
                    wish = context.run(coroutine.send, sent)
                else:
                    wish = context.run(coroutine.throw, raised)
            except StopIteration as end:
                value: T = end.value
                return value
            except GeneratorExit as error:  # nobody has closed it: whoever awaits this would believe that they are closed
                raise RuntimeError("the function raised GeneratorExit") from error
            finally:
                sent = raised = None  # an error's traceback refers to this frame
            try:
                sent = yield wish
            except GeneratorExit:  # who awaits this is closed, not resumed
                context.run(coroutine.close)
                raise
            except BaseException as error:  # noqa: BLE001, ASYNC103 - it belongs to the coroutine
                raised = error
    finally:
        del coroutine
