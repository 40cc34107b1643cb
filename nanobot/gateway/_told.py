"""What clients are told of an error."""

from __future__ import annotations

import logging
from typing import Final

from nanobot.errors import NanobotError, StoreError

__all__ = ["told"]

_log = logging.getLogger("nanobot.gateway")

_STORE_FAILED: Final = "The session store failed; the server's log says how."
"""A `StoreError` names a file, or a database and its address: nothing that a client has to know."""


def told(error: NanobotError) -> str:
    """What to tell. The log has what is not told."""
    if isinstance(error, StoreError):
        _log.error("%s", error)
        return _STORE_FAILED
    return str(error)
