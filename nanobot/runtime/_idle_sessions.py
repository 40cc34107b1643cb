"""Which sessions were used, and for how long nobody has used them."""

from __future__ import annotations

from collections import OrderedDict

import trio

__all__ = ["IdleSessions"]

_MOST = 100_000
"""Sessions that are watched at most: some 20 MB. Of more than these the longest unused are given up, and stay as they are."""


class IdleSessions:
    """Remembers when sessions were used last, while somebody wants to know. Belongs to one Trio run."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, float] = OrderedDict()  # the longest unused first
        self._watchers = 0
        self._noted = trio.Event()

    def __len__(self) -> int:
        """How many sessions are watched."""
        return len(self._used)

    def note_use(self, key: str) -> None:
        """A session was used just now."""
        if not self._watchers:
            return
        self._used[key] = trio.current_time()
        self._used.move_to_end(key)
        if len(self._used) > _MOST:
            self._used.popitem(last=False)
        self._noted.set()

    def watch(self) -> None:
        """Begin to remember; each `watch` needs an `unwatch`."""
        self._watchers += 1

    def unwatch(self) -> None:
        """Forget everything, if nobody else is watching."""
        self._watchers -= 1
        if not self._watchers:
            self._used.clear()

    async def next_idle(self, idle_s: float) -> str:
        """Wait until a session has not been used for so long, and return its key. It is watched again when it is used again."""
        while True:
            if not self._used:
                self._noted = trio.Event()
                await self._noted.wait()
            key, used_at = next(iter(self._used.items()))
            if trio.current_time() >= used_at + idle_s:
                del self._used[key]
                return key
            await trio.sleep_until(used_at + idle_s)
