"""A fair readers–writer lock whose holds can be shared and handed on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from ._notify import TrioNotify
from ._turnstile import Turnstile

__all__ = ["Hold", "ReadWriteLock"]

Listener = Callable[[], None]

_log = logging.getLogger("actors.lock")


class Hold:
    """One place in a lock's queue, and then inside it; belongs to no task.

    A hold begins with one owner. `share()` adds one for work that outlives the first; the lock is given back when the
    last owner has called `release()`. Releasing a hold that was not granted yet withdraws it.

    Attributes:
      exclusive: Whether it shares the lock with no other hold.
      granted: Whether the lock was ours at some time; stays true after the release.
    """

    __slots__ = ("_lock", "_on_grant", "_owners", "exclusive", "granted")

    def __init__(self, lock: ReadWriteLock, exclusive: bool, on_grant: Listener) -> None:
        self._lock = lock
        self._on_grant: Listener | None = on_grant
        self._owners = 1
        self.granted = False
        self.exclusive = exclusive

    @property
    def released(self) -> bool:
        """Whether the last owner has let go."""
        return self._owners == 0

    def share(self) -> Hold:
        """Add an owner, so that the lock stays held until that one too has called `release()`."""
        if self._owners == 0:
            raise RuntimeError("a released hold cannot be shared")
        self._owners += 1
        return self

    def release(self) -> None:
        """Give up one owner's part."""
        if self._owners == 0:
            raise RuntimeError("this hold was released already")
        self._owners -= 1
        if self._owners == 0:
            self._lock._give_back(self)


class ReadWriteLock:
    """Many shared holders or one exclusive holder, first come, first served.

    The policy is `Turnstile`'s; this class only remembers who wants to be told. `request` never blocks and suits code
    that waits for several things at once; `acquire` waits. `on_contention` is called whenever somebody starts to wait.
    """

    __slots__ = ("_turnstile", "on_contention")

    def __init__(self, *, on_contention: Listener | None = None) -> None:
        self._turnstile: Turnstile[Hold] = Turnstile()
        self.on_contention = on_contention

    @property
    def contended(self) -> bool:
        """Whether anybody waits for the lock."""
        return self._turnstile.contended

    @property
    def waiting(self) -> int:
        """How many wait for the lock. O(n), for looking."""
        return len(self._turnstile.waiting)

    @property
    def holders(self) -> int:
        """How many holds are inside. O(n), for looking."""
        return len(self._turnstile.inside)

    @property
    def exclusively_held(self) -> bool:
        """Whether one exclusive hold is inside."""
        return self._turnstile.exclusive_inside

    @trio.lowlevel.enable_ki_protection  # Ctrl-C in the middle would leave a hold in the queue that nobody knows
    def request(self, *, exclusive: bool, on_grant: Listener) -> Hold:
        """Join the queue. `on_grant` is called once, when the hold is granted; perhaps before this returns.

        What `on_grant` raises is logged. If `on_contention` raises, so does this, and the hold has left the queue.
        """
        hold = Hold(self, exclusive, on_grant)
        self._wake(self._turnstile.arrive(hold, exclusive=exclusive))
        if not hold.granted and self.on_contention is not None:
            try:
                self.on_contention()
            except BaseException:
                hold.release()
                raise
        return hold

    @trio.lowlevel.enable_ki_protection  # as in `request`
    async def acquire(self, *, exclusive: bool) -> Hold:
        """Wait until the hold is granted. A cancelled wait leaves the queue, and lets in those it held back."""
        notify = TrioNotify()
        hold = self.request(exclusive=exclusive, on_grant=notify.notify)
        try:
            await notify.notified()
        except BaseException:
            hold.release()
            raise
        return hold

    def _give_back(self, hold: Hold) -> None:
        leave = self._turnstile.leave if hold.granted else self._turnstile.withdraw
        self._wake(leave(hold))

    @staticmethod
    def _wake(granted: tuple[Hold, ...]) -> None:
        for hold in granted:
            hold.granted = True
        for hold in granted:
            listener, hold._on_grant = hold._on_grant, None
            if hold.released or listener is None:
                continue  # by a listener that was told before it
            try:
                listener()
            except Exception:  # noqa: BLE001 - one deaf listener may not keep the others out
                _log.exception("a listener of a granted hold failed: %r", listener)
