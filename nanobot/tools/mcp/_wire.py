"""The two ends of a transport that a session holds."""

from __future__ import annotations

from typing import NamedTuple

from mcp.client import _transport
from mcp.shared.message import SessionMessage

from ._outbox import Outbox

__all__ = ["Wire"]


class Wire(NamedTuple):
    """What a session reads from, and what it writes to."""

    messages: _transport.ReadStream[SessionMessage | Exception]
    outbox: Outbox
