"""Actors by key: made when first written to, passing away when idle."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, Generic, TypeVar

import trio

from ._errors import MailboxClosed
from ._idle_clock import IdleClock
from ._mailbox import Mailbox
from ._pace import Pace
from ._restart import GiveUp, Restart, RestartHistory, RestartPolicy

__all__ = ["Directory"]

K = TypeVar("K")
M = TypeVar("M")
Behavior = Callable[[K, Mailbox[M]], Awaitable[None]]
Undelivered = Callable[[M, BaseException], None]

_log = logging.getLogger("actors.directory")

_NO_FAILURES: Final = RestartHistory()


class Directory(Generic[K, M]):
    """One actor per key, in a nursery of the caller's.

    An actor is a task that runs `behavior(key, mailbox)`, usually one `async for` over the mailbox. When the behavior
    returns and the mailbox is empty the actor is gone, and the next message for its key makes a new one; what arrived in
    the meantime is kept and the behavior is run again. An idle key costs nothing.

    A behavior that raises takes nobody with it: it is run again with the same mailbox, as `policy` says. The message that
    it had read is gone; one that must be answered should be a `Call`, which settles whatever happens. Past the policy the
    messages it left are handed to `on_undelivered`, and so are those that a cancelled nursery leaves.

    Thousands of actors that are written to at once all begin at once, unless there is a `pace` for them; what is urgent does not
    wait for it, but for an actor that is about to begin anyway.

    Actors live in the context in which the directory was made, not in that of whoever happens to write first.

    Raises:
      ValueError: `capacity` or `idle_s` is negative, or no number.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        behavior: Behavior[K, M],
        *,
        on_undelivered: Undelivered[M],
        capacity: float = float("inf"),
        idle_s: float = 30.0,
        policy: RestartPolicy | None = None,
        pace: Pace | None = None,
    ) -> None:
        Mailbox[M](capacity=capacity, idle_s=idle_s)  # refuses what every later one would refuse
        self._nursery = nursery
        self._context = contextvars.copy_context()
        self._behavior = behavior
        self._on_undelivered = on_undelivered
        self._capacity = capacity
        self._idle_s = idle_s
        self._clock = IdleClock(idle_s)
        self._policy = policy or RestartPolicy()
        self._pace = pace
        self._mailboxes: dict[K, Mailbox[M]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._mailboxes)

    def __iter__(self) -> Iterator[K]:
        return iter(tuple(self._mailboxes))

    def mailbox(self, key: K) -> Mailbox[M] | None:
        """The mailbox of a living actor, or None; for looking, not for keeping."""
        return self._mailboxes.get(key)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C in the middle would leave a mailbox without an actor
    def post_nowait(self, key: K, message: M, *, urgent: bool = False, first: bool = False) -> None:
        """Send a message to the actor of `key`, making it if there is none; see `Mailbox.post_nowait`.

        Raises:
          MailboxFull: The actor's mailbox is at its capacity.
          MailboxClosed: The directory was closed, or its nursery has ended.
        """
        mailbox = self._mailboxes.get(key)
        if mailbox is None:
            if self._closed:
                raise MailboxClosed("this directory is closed")
            mailbox = Mailbox(capacity=self._capacity, idle_s=self._idle_s, clock=self._clock)
            mailbox.put_nowait(message, urgent=urgent, first=first)
            if urgent or self._pace is None or self._pace.take():
                self._start(key, mailbox)
                self._mailboxes[key] = mailbox
            else:
                self._mailboxes[key] = mailbox
                self._pace.later(partial(self._start_late, key, mailbox))
        else:
            mailbox.put_nowait(message, urgent=urgent, first=first)
            if urgent or self._pace is None or self._pace.take():
                mailbox.notify()
            else:
                self._pace.later(mailbox.notify)

    def close(self) -> None:
        """Make no further actors; the living ones keep their mailboxes until they pass away or are cancelled."""
        self._closed = True

    def _start(self, key: K, mailbox: Mailbox[M]) -> None:
        try:
            self._context.run(self._nursery.start_soon, self._live, key, mailbox)
        except RuntimeError:
            raise MailboxClosed("the nursery of this directory has ended") from None
        self._context.run(self._clock.start_soon, self._nursery, self._mailboxes)

    def _start_late(self, key: K, mailbox: Mailbox[M]) -> None:
        try:
            self._start(key, mailbox)
        except MailboxClosed as closed:
            del self._mailboxes[key]
            for message in mailbox.close():
                self._return(message, closed)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C belongs to the main task, not to whoever runs when it strikes
    async def _live(self, key: K, mailbox: Mailbox[M]) -> None:
        history = _NO_FAILURES
        reason: BaseException | None = None
        try:
            while True:
                try:
                    await self._behavior(key, mailbox)
                except Exception as failure:  # noqa: BLE001 - a behavior is a stranger's code
                    history, decision = history.failed(self._policy, trio.current_time())
                    match decision:
                        case GiveUp(failures=failures):
                            _log.error("actor %r failed %d times", key, failures, exc_info=failure)
                            reason = failure
                            break
                        case Restart(delay_s=delay_s):
                            _log.warning("actor %r failed; restarting", key, exc_info=failure)
                            await trio.sleep(delay_s)
                            continue
                if not mailbox:
                    break  # no checkpoint from here until the mailbox is out of the directory
                await trio.lowlevel.checkpoint()  # for a behavior that returns without reading
        finally:
            del self._mailboxes[key]
            if not self._mailboxes:
                self._clock.look()
            for message in mailbox.close():
                self._return(message, reason or MailboxClosed("the actor was cancelled"))
            del reason  # its traceback refers to this frame

    def _return(self, message: M, reason: BaseException) -> None:
        try:
            self._on_undelivered(message, reason)
        except Exception:  # noqa: BLE001 - the other messages must not be lost, nor the other actors ended, because of it
            _log.exception("on_undelivered failed for %r", message)
