"""Every error this package raises on purpose.

ActorsError
├── MailboxFull      the inbox is at its capacity; the sender decides what to drop
├── MailboxClosed    the actor is gone and takes no more messages
├── Stopped          the place where the work lived was stopped before the work was done
├── HomeGone         the Trio run that an engine lives in has ended (also Stopped)
├── HostGone         the caller's event loop has ended, so nothing can be asked of it
├── HostCancelled    something in the caller's loop cancelled what an engine awaits there
├── CallCancelled    the call was cancelled before it had a result
├── ReaderStalled    a stream's reader is further behind than the stream may keep
└── ChildFailed      a supervised child failed more often than its policy allows
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ActorsError",
    "CallCancelled",
    "ChildFailed",
    "HomeGone",
    "HostCancelled",
    "HostGone",
    "MailboxClosed",
    "MailboxFull",
    "ReaderStalled",
    "Stopped",
]


class ActorsError(Exception):
    """Root of every error that this package raises on purpose. Can be copied and pickled, with its facts."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with the message, which is not what the classes with facts take.
        return _anew, (type(self), self.args), self.__dict__


def _anew(kind: type[ActorsError], args: tuple[object, ...]) -> ActorsError:
    return kind.__new__(kind, *args)


class MailboxFull(ActorsError):
    """The mailbox holds as many messages as it may; `capacity` says how many."""

    def __init__(self, capacity: int) -> None:
        super().__init__(f"the mailbox is full ({capacity} messages); wait, or drop this one")
        self.capacity = capacity


class MailboxClosed(ActorsError):
    """The actor is gone and takes no more messages."""


class Stopped(ActorsError):
    """The place where the work lived was stopped before the work was done."""


class HomeGone(Stopped):
    """The Trio run that an engine lives in has ended."""


class HostGone(ActorsError):
    """The caller's event loop has ended, so nothing can be asked of it."""


class HostCancelled(ActorsError):
    """Something in the caller's loop cancelled what an engine awaits there, and it was not the engine."""


class CallCancelled(ActorsError):
    """The call was cancelled before it had a result."""


class ReaderStalled(ActorsError):
    """A stream's reader is further behind than the stream may keep; `limit_bytes` says how far that is."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the reader is more than {limit_bytes} bytes behind")
        self.limit_bytes = limit_bytes


class ChildFailed(ActorsError):
    """A supervised child failed more often than its policy allows; the last failure is the cause."""

    def __init__(self, name: str, failures: int) -> None:
        super().__init__(f"{name} failed {failures} times; its supervisor gives up")
        self.name = name
        self.failures = failures
