"""What a scripted server counts."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Statistics"]


class Statistics(Struct, frozen=True):
    """A snapshot of a scripted server.

    `connections` counts all that were ever accepted, `open_connections` those open now, `peak_connections` the most
    that were open at once; `requests`, `requests_in_flight` and `peak_requests_in_flight` are the same for requests for
    a completion, in flight from their last byte until the end of their answer. `hang_ups` counts connections that the
    client closed while a request on them was in flight.
    """

    connections: int = 0
    open_connections: int = 0
    peak_connections: int = 0
    requests: int = 0
    requests_in_flight: int = 0
    peak_requests_in_flight: int = 0
    hang_ups: int = 0
