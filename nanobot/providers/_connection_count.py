"""How many connections a provider holds, for looking at from outside."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from msgspec import Struct

__all__ = ["ConnectionCount", "CountsConnections", "connections_of"]


class ConnectionCount(Struct, frozen=True):
    """Sockets to model services: those `open`, those of them `idle`, and requests `waiting` for one."""

    open: int = 0
    idle: int = 0
    waiting: int = 0

    def __add__(self, other: ConnectionCount) -> ConnectionCount:
        return ConnectionCount(
            self.open + other.open, self.idle + other.idle, self.waiting + other.waiting
        )


@runtime_checkable
class CountsConnections(Protocol):
    """What a provider may have besides `Provider`: it knows how many connections it holds."""

    def connections(self) -> ConnectionCount:
        """Count now. Must be safe to call from any thread, without waiting."""
        ...


def connections_of(provider: object) -> ConnectionCount:
    """The connections of a provider; none of one that does not count them."""
    return provider.connections() if isinstance(provider, CountsConnections) else ConnectionCount()
