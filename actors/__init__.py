"""A small actor runtime on Trio: mailboxes, keyed actors, supervision, a fair lock, credit streams, and engines that
callers under trio, asyncio or no loop at all can use alike.
"""

import logging

from ._ask import ask, ask_sync, cancel_soon, wait_settled, wait_settled_sync
from ._call import Call, CallState
from ._call_host import call_host
from ._current_host import current_home, current_host, in_async_loop
from ._directory import Directory
from ._errors import (
    ActorsError,
    CallCancelled,
    ChildFailed,
    HomeGone,
    HostCancelled,
    HostGone,
    MailboxClosed,
    MailboxFull,
    ReaderStalled,
    Stopped,
)
from ._home import Home, shared_home, trio_home
from ._host import AsyncHost, Host, Notify
from ._host_sync import SyncHost
from ._mailbox import Mailbox
from ._notify import TrioNotify
from ._pace import Pace
from ._restart import GiveUp, Restart, RestartHistory, RestartPolicy
from ._rwlock import Hold, ReadWriteLock
from ._shares import Shares
from ._stream import CreditReader, CreditStream
from ._supervisor import Supervisor, open_supervisor, supervise
from ._turnstile import Turnstile

__all__ = [
    "ActorsError",
    "AsyncHost",
    "Call",
    "CallCancelled",
    "CallState",
    "ChildFailed",
    "CreditReader",
    "CreditStream",
    "Directory",
    "GiveUp",
    "Hold",
    "Home",
    "HomeGone",
    "Host",
    "HostCancelled",
    "HostGone",
    "Mailbox",
    "MailboxClosed",
    "MailboxFull",
    "Notify",
    "Pace",
    "ReadWriteLock",
    "ReaderStalled",
    "Restart",
    "RestartHistory",
    "RestartPolicy",
    "Shares",
    "Stopped",
    "Supervisor",
    "SyncHost",
    "TrioNotify",
    "Turnstile",
    "ask",
    "ask_sync",
    "call_host",
    "cancel_soon",
    "current_home",
    "current_host",
    "in_async_loop",
    "open_supervisor",
    "shared_home",
    "supervise",
    "trio_home",
    "wait_settled",
    "wait_settled_sync",
]

logging.getLogger("actors").addHandler(logging.NullHandler())  # silent unless its user asks
