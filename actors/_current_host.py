"""Finding out in which kind of loop the caller runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

from ._home import Home, shared_home, trio_home
from ._host_trio import TrioHost

if TYPE_CHECKING:
    from ._host import AsyncHost

__all__ = ["current_home", "current_host", "in_async_loop"]


def current_home() -> Home:
    """The home for an engine that is first used here: the caller's own Trio run, else the shared thread."""
    return trio_home() if trio.lowlevel.in_trio_task() else shared_home()


def current_host(home: Home) -> AsyncHost:
    """The loop that the calling task runs in, seen from an engine in `home`.

    Raises:
      RuntimeError: There is no running loop.
    """
    if trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()
        if token is not home.token:
            return TrioHost(token, local=False)
        if home.local_host is None:
            home.local_host = TrioHost(token, local=True)
        return home.local_host
    if "asyncio" in sys.modules:
        # deferred: a Trio program pays nothing for asyncio; where it is not imported no loop of it can be running
        from ._host_asyncio import AsyncioHost

        return AsyncioHost.current()
    raise RuntimeError("no running event loop")


def in_async_loop() -> bool:
    """Whether the caller could await instead of blocking: a Trio task, or asyncio's loop in this thread."""
    if trio.lowlevel.in_trio_task():
        return True
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
