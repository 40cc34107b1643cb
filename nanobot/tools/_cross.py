"""The way from a tool call to the loop of whoever called the SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

__all__ = ["Cross", "run_here"]

T = TypeVar("T")


class Cross(Protocol):
    """Runs an async function in the caller's loop, thread and context, and returns or raises what it does.

    Cancelling the waiting side cancels the function and waits for its end.
    """

    async def __call__(self, function: Callable[..., Awaitable[T]], /, *args: Any) -> T: ...


async def run_here(function: Callable[..., Awaitable[T]], /, *args: Any) -> T:
    """The way to a caller who lives in this Trio run: no way at all."""
    return await function(*args)
