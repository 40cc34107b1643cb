"""Telling a task's own cancellation apart from the errors that travel with it."""

from __future__ import annotations

import trio

__all__ = ["split_cancelled"]


def split_cancelled(
    error: BaseException,
) -> tuple[BaseException | None, BaseException | None]:
    """Split an error into the cancellation in it, which belongs to the task, and the rest, which belongs to whoever asked.

    A nursery that is cancelled while a child fails in a `finally` block raises both, in one group.
    """
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error
