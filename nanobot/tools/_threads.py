"""Where blocking work runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio
from trio.lowlevel import RunVar

__all__ = ["FILE_THREADS", "TOOL_THREADS", "in_file_thread", "in_tool_thread"]

T = TypeVar("T")

FILE_THREADS: Final = 8
"""Threads of one Trio run for our own file work. It is short and mostly in the page cache, so more threads only contend
for the interpreter: a thousand `list_dir` of 30 names at once take 0.11 s with 8 or 16 threads, 0.13 s with 4 and 0.25 s
with 40 (2 cores, Python 3.11)."""

TOOL_THREADS: Final = 64
"""Threads of one Trio run for sync tools. Those that wait cost little (12 kB each); those that compute take turns at the
interpreter, 5 ms each, and the engine waits for its turn among them: 0.3 s at worst."""

_file_limiter: RunVar[trio.CapacityLimiter] = RunVar("nanobot.tools.file_limiter")
_tool_limiter: RunVar[trio.CapacityLimiter] = RunVar("nanobot.tools.tool_limiter")


async def in_file_thread(function: Callable[[], T]) -> T:
    """Run our own file work; return or raise only when it has ended, so that nothing is left open behind a cancel.

    Work that may take longer calls `trio.from_thread.check_cancelled()` between its pieces.
    """
    return await trio.to_thread.run_sync(function, limiter=_limiter(_file_limiter, FILE_THREADS))


async def in_tool_thread(function: Callable[[], T]) -> T:
    """Run a stranger's function. A cancel leaves it alone in its thread, which it occupies until it returns."""
    limiter = _limiter(_tool_limiter, TOOL_THREADS)
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)


def _limiter(variable: RunVar[trio.CapacityLimiter], threads: int) -> trio.CapacityLimiter:
    """The limiter of this Trio run: one that two runs shared would wake tasks of the other."""
    try:
        return variable.get()
    except LookupError:
        limiter = trio.CapacityLimiter(threads)
        variable.set(limiter)
        return limiter
