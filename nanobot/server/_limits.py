"""How much of everything: the bounds of the server."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BODY_WITHIN_S",
    "HEAD_WITHIN_S",
    "IDLE_CONNECTION_S",
    "MAX_BODIES_BYTES",
    "MAX_BODY_BYTES",
    "MAX_FILES",
    "MAX_FILE_BYTES",
    "PING_EVERY_S",
    "WRITE_WITHIN_S",
]

MAX_FILE_BYTES: Final = 10 * 1024 * 1024
"""Of one file, decoded. Model services take images up to 5 to 20 MB."""

MAX_BODY_BYTES: Final = 20 * 1024 * 1024
"""Of one request: a file of the limit in base64, and a long transcript beside it."""

MAX_BODIES_BYTES: Final = 400 * 1024 * 1024
"""Of all bodies that are being read and worked on: twenty of the largest, or any number of usual ones."""

MAX_FILES: Final = 20
"""With one message; more than any model service takes images."""

BODY_WITHIN_S: Final = 60.0
"""From head to end of a request: 20 MB at 3 Mbit/s. Who takes longer holds a place for nothing."""

IDLE_CONNECTION_S: Final = 75.0
"""Without a complete request head. Longer than proxies and clients keep idle connections (nginx 60 s), or they would
send a request into one that is just being closed."""

WRITE_WITHIN_S: Final = 60.0
"""That a client may take to accept the next piece of an answer. Its run waits that long, and no longer."""

HEAD_WITHIN_S: Final = 10.0
"""That a streamed answer may stay without a head, so that a run that fails at once fails with the status it deserves.
After that clients and proxies should see a sign of life."""

PING_EVERY_S: Final = 15.0
"""Comments in a silent stream, while a tool works: proxies give up on silence, usually after 60 s."""
