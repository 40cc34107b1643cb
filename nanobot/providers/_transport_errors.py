"""What goes wrong between us and a server, below the meaning of its answer.

TransportError
├── TransportClosed     we closed the pool
├── NotConnected        nobody is there, or it is not who it should be
│   └── ProxyRefused    … or the proxy does not let us through
├── ConnectionBroken    it was there, and went away
├── NotHTTP             what came is no HTTP response, or not all of one
└── TransportTimeout    it took too long
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "ConnectionBroken",
    "NotConnected",
    "NotHTTP",
    "Phase",
    "ProxyRefused",
    "TransportClosed",
    "TransportError",
    "TransportTimeout",
]

Phase: TypeAlias = Literal["connect", "write", "read"]


class TransportError(Exception):
    """A request had no answer, or only a part of one."""


class TransportClosed(TransportError):
    """The pool was closed before this request, or while it was in flight; make a new one."""

    def __init__(self) -> None:
        super().__init__("the transport is closed; make a new one")


class NotConnected(TransportError):
    """The name does not resolve, nobody listens, or the certificate is not trusted."""


class ProxyRefused(NotConnected):
    """The proxy does not connect us, or does not speak as one."""


class ConnectionBroken(TransportError):
    """The connection broke, or was closed from this side."""


class NotHTTP(TransportError):
    """What came is no HTTP response, or not all of one."""


class TransportTimeout(TransportError):
    """A limit was passed.

    Attributes:
      phase: What was being done.
    """

    def __init__(self, message: str, *, phase: Phase) -> None:
        super().__init__(message)
        self.phase = phase
