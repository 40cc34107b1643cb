"""What the subjects without an agent send: one request of about the size that a short turn has."""

from __future__ import annotations

import json

from _rounds import Load

__all__ = ["BODY", "HEADERS", "url_of"]

BODY = json.dumps(
    {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 500}]},
    separators=(",", ":"),
).encode()
HEADERS = {
    "authorization": "Bearer sk-benchmark",
    "content-type": "application/json",
    "accept": "text/event-stream",
}


def url_of(wanted: Load) -> str:
    """Where a chat completion is asked for."""
    return f"{wanted.base_url}/v1/chat/completions"
